"""The controller's process: `kubexen-controller`. Wires watches, queues and reconcilers, under a leader lease."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket

import kopf

from kubexen.api.names import AGENT_NAMESPACE, CONTROLLER_LEASE, SYSTEM_NAMESPACE
from kubexen.api.xennetwork import XenNetwork
from kubexen.api.xenstoragepool import XenStoragePool
from kubexen.controller import handlers
from kubexen.controller.actions import ActionReconciler
from kubexen.controller.cache import Cache
from kubexen.controller.disks import DiskReconciler
from kubexen.controller.domains import DomainReconciler
from kubexen.controller.migrations import MigrationReconciler
from kubexen.controller.nodes import NodeReconciler
from kubexen.controller.resources import ResourceReconciler
from kubexen.controller.routes import Queues, Routes
from kubexen.controller.watches import Watches
from kubexen.kube import health
from kubexen.kube.client import Api
from kubexen.kube.events import EventRecorder
from kubexen.kube.kinds import XENNETWORKS, XENSTORAGEPOOLS
from kubexen.kube.lease import LeaderElection
from kubexen.plan.anchor import IMAGE
from kubexen.plan.capacity import VCPUS_PER_CPU

logger = logging.getLogger("kubexen.controller")

RELIST_SECONDS = 300.0
"""How often everything is listed and compared: Kopf never tells of what was deleted while a watch was broken."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="kubexen-controller", description=__doc__)
    parser.add_argument("--kubeconfig", help="default: $KUBECONFIG, or the pod's own account")
    parser.add_argument("--namespace", default=SYSTEM_NAMESPACE, help="where the leader's Lease is kept")
    parser.add_argument("--agent-namespace", default=AGENT_NAMESPACE, help="where agents keep theirs")
    parser.add_argument("--anchor-image", default=IMAGE)
    parser.add_argument("--vcpus-per-cpu", type=int, default=VCPUS_PER_CPU, help="virtual CPUs that a physical one may carry")
    parser.add_argument("--leader-elect", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--health", metavar="HOST:PORT", help="answer /livez and /readyz here (default: nowhere)")
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    arguments = parser.parse_args()
    if arguments.kubeconfig:
        os.environ["KUBECONFIG"] = arguments.kubeconfig
    logging.basicConfig(
        level=arguments.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for noisy in ("kopf.objects", "kopf.activities", "kopf._core"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    asyncio.run(_main(arguments))


async def _main(arguments: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    process = asyncio.current_task()
    assert process is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, process.cancel)
    watches = Watches()

    async def leading() -> None:
        await lead(api, arguments, watches, process)

    api = await Api.connect(arguments.kubeconfig, user_agent="kubexen-controller")
    identity = f"{socket.gethostname()}_{os.getpid()}"
    election = LeaderElection(api, arguments.namespace, CONTROLLER_LEASE, identity)
    probes = asyncio.create_task(_probes(arguments.health, watches, election))
    probes.add_done_callback(lambda _: process.cancel())  # the port is taken
    try:
        if not arguments.leader_elect:
            await leading()
        else:
            await election.run(leading)
            logger.error("the lead was lost; starting anew")
    except asyncio.CancelledError:
        logger.info("stopped")
    finally:
        await api.close()


async def _probes(address: str | None, watches: Watches, election: LeaderElection) -> None:
    """Alive: every watch is. Ready: the API server answers this process, be it the leader or the one that waits."""

    def ready() -> list[str]:
        return watches.silent() or election.out_of_touch()

    if address is None:
        await asyncio.Event().wait()
    else:
        await health.serve(address, alive=watches.silent, ready=ready)


async def lead(api: Api, arguments: argparse.Namespace, watches: Watches, process: asyncio.Task[None]) -> None:
    """All that the one active controller does, until it is cancelled. Raises when any part of it ends."""
    cache = Cache()
    events = EventRecorder(api, "kubexen-controller", socket.gethostname())
    queues = Queues()
    routes = Routes(cache, queues)
    await relist(api, cache)
    cache.subscribe(routes.changed)
    routes.everything()
    domains = DomainReconciler(api, cache, events, image=arguments.anchor_image, namespace=arguments.agent_namespace)
    nodes = NodeReconciler(api, cache, namespace=arguments.agent_namespace, vcpus_per_cpu=arguments.vcpus_per_cpu,
                           on_domain=queues.domains.add)
    actions = ActionReconciler(api, cache, on_domain=queues.domains.add)
    logger.info("leading: %d domains", len(queues.domains))
    async with asyncio.TaskGroup() as group:
        group.create_task(_watch(cache, watches, process))
        group.create_task(_relist_for_ever(api, cache))
        group.create_task(events.run())
        group.create_task(queues.domains.run(domains.reconcile, workers=16))
        group.create_task(queues.nodes.run(nodes.reconcile, workers=4))
        group.create_task(queues.disks.run(DiskReconciler(api, cache).reconcile, workers=4))
        group.create_task(queues.actions.run(actions.reconcile, workers=2))
        group.create_task(queues.migrations.run(MigrationReconciler(api, cache).reconcile, workers=1))
        pools = ResourceReconciler(api, cache, XENSTORAGEPOOLS, XenStoragePool)
        group.create_task(queues.pools.run(pools.reconcile, workers=1))
        networks = ResourceReconciler(api, cache, XENNETWORKS, XenNetwork)
        group.create_task(queues.networks.run(networks.reconcile, workers=1))


async def _watch(cache: Cache, watches: Watches, process: asyncio.Task[None]) -> None:
    """Kopf catches SIGTERM and SIGINT itself: when it ends, so does the process."""
    watches.expect(handlers.WATCHED, handlers.WATCH_SECONDS)
    await kopf.operator(registry=handlers.registry(cache, watches), settings=handlers.settings(), clusterwide=True)
    process.cancel()


async def relist(api: Api, cache: Cache) -> None:
    """Take the server's lists as they are now."""
    for res in handlers.WATCHED:
        objects, version = await api.list(res, label_selector=handlers.SELECTORS.get(res, ""))
        cache.replace(res, objects, version)


async def _relist_for_ever(api: Api, cache: Cache) -> None:
    while True:
        await asyncio.sleep(RELIST_SECONDS)
        try:
            await relist(api, cache)
        except Exception as error:
            logger.warning("could not compare with the server's lists: %s", error)


if __name__ == "__main__":
    main()
