"""Talking to the Kubernetes API: client, reflector, work queue, leases, events.

Used by the controller and by the agent. Knows neither Xen nor Kubexen's kinds; objects are plain dicts, as the API
sends them.
"""
