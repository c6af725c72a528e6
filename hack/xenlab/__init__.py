"""Real Xen hosts under QEMU, built and driven without a person, for tests and the demo: see README.md."""
