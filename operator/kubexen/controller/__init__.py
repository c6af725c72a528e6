"""The controller: decides where domains are, and tells users what is going on. One Deployment in the cluster.

handlers.py puts what Kopf hears into cache.py and keys into queues; behind each queue stands one reconciler a noun
(domains, disks, nodes, actions, ...). It never talks to a host.
"""
