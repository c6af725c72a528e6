"""Kubexen's image from the Dockerfile, without Docker and without a registry: see image.py."""
