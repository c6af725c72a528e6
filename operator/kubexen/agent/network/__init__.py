"""The host's bridges."""
