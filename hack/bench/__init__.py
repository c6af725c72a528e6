"""The bench: how fast domains start under load, and what that costs. `python -m hack.bench`, or `make bench`.

load.py makes the load and takes the times, cost.py reads what it cost from outside (/proc, the audit log), bounds.py
compares the figures with rangespec.yaml.
"""
