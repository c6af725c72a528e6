"""Pure decisions: desired and observed state in, steps and status out. No I/O, no clock, no globals.

placement.py decides for the controller, domain.py for the agent; both hand frozen steps to an executor.
"""
