"""A whole Kubexen on this machine: control plane, hosts (real Xen under QEMU, or simulated), agents and the controller.

Behind `make demo`, `make up` and the tests of cluster/ and xen/.
"""
