"""Xen domains as Kubernetes resources: the controller, the agents, and the plugin of kubectl."""

VERSION = "0.1.0"
"""Of the packages here; the chart's appVersion is the same."""
