"""The agent: one process in each Xen node's dom0. It drives the node's own domains, and no other's.

main.py wires it; host.py is its view of the hypervisor, domains.py the loop over this node's XenDomains, disks.py and storage/
what they keep on the host, network/ its bridges, xenhost.py what it tells of the host. Its end harms no domain.
"""
