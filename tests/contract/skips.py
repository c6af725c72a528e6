"""What each driver may skip of the suite, and why. A skip that is not in here fails, and so does an entry without need.

A key is a capability (of the port, or of guests.py) or the name of one test.
"""

SKIPS: dict[str, dict[str, str]] = {
    "xen": {},
    "sim": {
        "test_what_is_not_on_the_host": "the paths and bridges of a simulated host need not exist",
    },
    "test": {
        "flags": "libvirt's test driver has no hypervisor to read flags from",
        "shutdown-reason": "a domain of libvirt's test driver vanishes when it ends",
        "shutdown-delay": "libvirt's test driver shuts a domain down at once",
        "guest-reboot": "libvirt's test driver runs no guests",
        "backends": "libvirt's test driver has no backends",
        "loop-devices": "libvirt's test driver has no dom0",
        "persistence": "libvirt's test driver forgets all when the process's last connection closes",
        "guest-acts": "libvirt's test driver runs no guests",
        "administrator": "nobody else can act on libvirt's test driver",
        "test_free_memory_follows_the_domains": "libvirt's test driver accounts no memory",
        "test_what_is_not_on_the_host": "libvirt's test driver has neither files nor bridges",
    },
}
