"""Unit tests of kubexen.kube: what needs no API server, and what a real one cannot be made to answer."""
