"""A simulated Xen host in a directory: `sim:///DIRECTORY?cpus=4&memory=8Gi&create_ms=50`.

    driver.py    SimDriver: the port, as the agent sees the host
    host.py      SimHost: the other side, as a guest, an administrator or a fault acts on it
    machine.py   the host: its rules, over all drivers and processes that have it open
    domain.py    one domain: what it does over time
    settings.py  the host's size and speed
    store.py     the host's state on disk
    hints.py     tells every open driver of a change

It claims only what a real Xen host was seen doing. Nothing in it knows Kubernetes.
"""
