"""`kubectl xen doctor`: what is wrong with hosts and cluster, and how to mend it.

snapshot.py reads everything once; check.py and what it calls are pure and turn that into findings; render.py shows them;
bundle.py packs what was read, without secrets, for who is to help.
"""
