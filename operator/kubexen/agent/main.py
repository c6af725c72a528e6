"""The agent's process: `kubexen-agent --node NAME --driver xen:///system`. Wires reflectors, the queue and the loops."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from kubexen.agent import checks
from kubexen.agent.anchors import Anchors
from kubexen.agent.claims import Claims
from kubexen.agent.devices import FileDevices
from kubexen.agent.disks import Disks
from kubexen.agent.domains import Domains
from kubexen.agent.host import Host
from kubexen.agent.network.bridges import Bridges
from kubexen.agent.seeds import Seeds
from kubexen.agent.starter import Starter
from kubexen.agent.storage.directory import Directory
from kubexen.agent.storage.kubelet import FOLDER, Kubelet
from kubexen.agent.xenhost import HostReporter
from kubexen.api.base import InvalidObject
from kubexen.api.names import AGENT_NAMESPACE
from kubexen.api.xennetwork import XenNetwork
from kubexen.api.xenstoragepool import XenStoragePool
from kubexen.hypervisor.drivers import opener
from kubexen.hypervisor.errors import HypervisorError, Unsupported
from kubexen.hypervisor.port import DomainState, Hypervisor
from kubexen.kube import health
from kubexen.kube.client import Api
from kubexen.kube.events import EventRecorder
from kubexen.kube.kinds import XENDISKS, XENDOMAINS, XENNETWORKS, XENSTORAGEPOOLS
from kubexen.kube.lease import LeaseHolder
from kubexen.kube.queue import WorkQueue
from kubexen.kube.reflector import Reflector
from kubexen.kube.resources import Object
from kubexen.plan.report import reference

logger = logging.getLogger("kubexen.agent")

WORKERS = 8
STARTS = ENDS = 2
"""Of these, at most so many start a domain and end one: seconds, and up to minutes. The others tell what domains do meanwhile."""
SETTLE_SECONDS = 2.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="kubexen-agent", description=__doc__)
    parser.add_argument("--node", default=socket.gethostname(), help="the name of this host's Node")
    parser.add_argument("--driver", default="xen:///system", help="xen:///system, or sim:///DIRECTORY")
    parser.add_argument("--root", type=Path, default=Path("/"), help="where this process sees the host's file system")
    parser.add_argument("--pool-root", type=Path, help="where it sees the pools' directories (default: ROOT)")
    parser.add_argument("--etc", type=Path, help="where it sees the host's /etc, to check how it is set up (default: ROOT/etc)")
    parser.add_argument("--kubelet-root", default=FOLDER, help="the kubelet's --root-dir on this host")
    parser.add_argument("--xen-root", type=Path, default=Path(os.environ.get("KUBEXEN_XEN_ROOT", "/")),
                        help="below it is the host's /usr, with what belongs to its Xen; default: $KUBEXEN_XEN_ROOT, or /")
    parser.add_argument("--kubeconfig", help="default: $KUBECONFIG, or the pod's own account")
    parser.add_argument("--namespace", default=AGENT_NAMESPACE, help="where Leases are kept")
    parser.add_argument("--full-look", type=float, default=30.0, help="seconds between two looks at every domain")
    parser.add_argument("--health", metavar="HOST:PORT", help="answer /livez and /readyz here (default: nowhere)")
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    arguments = parser.parse_args()
    logging.basicConfig(
        level=arguments.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:  # before anything waits for an answer: an import takes the interpreter to itself
        connect = opener(arguments.driver, arguments.xen_root, arguments.root)
    except Unsupported as error:
        parser.error(f"--driver: {error}")
    logger.info("the agent of %s has started", arguments.node)
    asyncio.run(_main(connect, arguments))


async def _main(connect: Callable[[], Hypervisor], arguments: argparse.Namespace) -> None:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    api = await Api.connect(arguments.kubeconfig, user_agent="kubexen-agent")
    try:
        await run(api, connect, arguments)
    except asyncio.CancelledError:
        logger.info("stopped; domains run on")
    finally:
        await api.close()


async def run(api: Api, connect: Callable[[], Hypervisor], arguments: argparse.Namespace) -> None:
    """All that the agent does, until it is cancelled. Raises when any part of it ends. A host whose hypervisor does not answer
    has its Lease and its XenHost all the same."""
    node: str = arguments.node
    host = Host(connect, node)
    kubelet = Kubelet(arguments.root, arguments.kubelet_root)
    claims, devices = Claims(arguments.root, kubelet, host), FileDevices(arguments.root, host)
    seeds = Seeds(arguments.root, kubelet, devices)
    await asyncio.to_thread(claims.take_hold)
    queue, disk_queue = WorkQueue("domains"), WorkQueue("disks")
    mine = f"status.nodeName={node}"
    domain_store = Reflector(api, XENDOMAINS, field_selector=mine, on_change=lambda key, *_: queue.add(key))
    disk_store = Reflector(api, XENDISKS, field_selector=mine, on_change=lambda key, *_: disk_queue.add(key))

    def everything(*_: object) -> None:
        for key in domain_store.store:
            queue.add(key)

    pool_store = Reflector(api, XENSTORAGEPOOLS, on_change=everything)
    network_store = Reflector(api, XENNETWORKS, on_change=everything)
    pools, networks = _parsed(pool_store, XenStoragePool.parse), _parsed(network_store, XenNetwork.parse)
    storage, bridges = Directory(arguments.pool_root or arguments.root, node), Bridges(arguments.root)

    events = EventRecorder(api, "kubexen-agent", node)
    disks = Disks(api, storage, node, pools, host, devices)
    starter = Starter(
        api, host, pools=pools, networks=networks, disks=disks, claims=claims, seeds=seeds, storage=storage, bridges=bridges
    )
    domains = Domains(
        api, host, events, store=domain_store.store, starter=starter, claims=claims, devices=devices, seeds=seeds,
        anchors=Anchors(arguments.root), starts=queue.turns(STARTS), ends=queue.turns(ENDS),
    )
    reporter = HostReporter(
        api, host, events, orphans=domains.orphans, pools=pools, networks=networks, storage=storage, bridges=bridges,
        look=partial(checks.look, arguments.etc or arguments.root / "etc"),
        unreachable=partial(checks.unreachable, arguments.root),
    )

    async def report() -> None:
        """A first word that does not know the pools and networks yet would take back what the last agent said of them."""
        for store in (pool_store, network_store):
            await store.synced.wait()
        await reporter.run()

    async def remove_disks() -> None:
        """Not before it is known which domains are here."""
        await host.looked.wait()
        await disk_queue.run(reconcile_disk, 1)

    async def reconcile_disk(key: str) -> float | None:
        document = disk_store.store.get(key)
        return await disks.reconcile(document) if document else None

    def changed(state: DomainState) -> None:
        if state.owner is not None:
            queue.add(state.owner.key)

    ready = asyncio.Event()  # everything was seen once

    async def look_at_all() -> None:
        """Levels, not edges: every domain of this node and on this host is looked at now and then."""
        while True:
            await asyncio.sleep(arguments.full_look)
            try:
                for owner in await host.call(host.hypervisor.tidy):
                    logger.warning("%s: removed a definition of it", owner.key)
                    events.event(reference(owner), "Warning", "DefinedByHand", "Somebody defined the domain on its host "
                                 "(virsh define); removed the definition, which would have outlived it")
                if ready.is_set():
                    await domains.sweep()
            except (HypervisorError, OSError) as error:  # the agent outlives its hypervisor's daemon
                logger.warning("nothing was tidied: %s", error)
            for uuid in [u for u in domains.orphans if u not in host.domains]:
                del domains.orphans[uuid]
            everything()
            for state in host.domains.values():
                changed(state)

    async def work() -> None:
        """Nothing is decided before everything was seen once."""
        for store in (pool_store, network_store, domain_store):
            await store.synced.wait()
        await host.looked.wait()
        # A start that an agent asked for before it died may not be visible yet: wait before absence is believed.
        await asyncio.sleep(SETTLE_SECONDS)
        await host.look()
        for state in host.domains.values():
            changed(state)
        ready.set()
        logger.info("%s: %d domains here, %d bound", node, len(host.domains), len(domain_store.store))
        await queue.run(domains.reconcile, WORKERS)

    def not_ready() -> list[str]:
        """That it lives is all that a restart could mend: neither the API server nor the hypervisor comes back by one."""
        stores = {"xendomains": domain_store, "xendisks": disk_store, "xenstoragepools": pool_store,
                  "xennetworks": network_store}
        wrong = [f"{kind}: not listed yet" for kind, store in stores.items() if not store.synced.is_set()]
        return wrong if host.looked.is_set() else [*wrong, f"the hypervisor was not seen yet: {host.error or 'no answer'}"]

    try:
        async with asyncio.TaskGroup() as group:
            for store in (domain_store, disk_store, pool_store, network_store):
                group.create_task(store.run())
            lease = LeaseHolder(api, arguments.namespace, node, f"{node}_{os.getpid()}_{int(time.time())}")
            for part in (lease.run(), events.run(), report(), host.watch(changed), look_at_all(), work(),
                         remove_disks()):
                group.create_task(part)
            if arguments.health:
                group.create_task(health.serve(arguments.health, alive=list, ready=not_ready))
    finally:
        host.close()


def _parsed(reflector: Reflector, parse: Callable[[Object], Any]) -> Callable[[], Mapping[str, Any]]:
    """The reflector's objects by name; one that cannot be read is as if it were not there."""

    def read() -> Mapping[str, Any]:
        result = {}
        for key, document in reflector.store.items():
            try:
                result[key] = parse(document)
            except InvalidObject as error:
                logger.warning("%s: %s", key, error)
        return result

    return read


if __name__ == "__main__":
    main()
