"""The kinds of kubexen.dev as Python models, one file each, and the generator of their CRDs.

Every other layer imports it; it imports none of them. It does no I/O but crdgen's files.
"""
