"""The libvirt driver without a Xen: its data, its error table, and libvirt's own test driver behind it."""
