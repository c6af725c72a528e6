"""Real Xen hosts under QEMU, built and driven without a person, for tests and the demo. README.md says how to use it."""
