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
from pathlib import Path
from typing import Any

from kubexen.agent.disks import Disks
from kubexen.agent.domains import Domains
from kubexen.agent.host import Host
from kubexen.agent.network.bridges import Bridges
from kubexen.agent.storage.directory import Directory
from kubexen.agent.xenhost import HostReporter
from kubexen.api.base import InvalidObject
from kubexen.api.xennetwork import XenNetwork
from kubexen.api.xenstoragepool import XenStoragePool
from kubexen.hypervisor.drivers import connect
from kubexen.hypervisor.errors import HypervisorError
from kubexen.hypervisor.port import DomainState, Hypervisor
from kubexen.kube.client import Api
from kubexen.kube.events import EventRecorder
from kubexen.kube.kinds import XENDISKS, XENDOMAINS, XENNETWORKS, XENSTORAGEPOOLS
from kubexen.kube.lease import LeaseHolder
from kubexen.kube.queue import WorkQueue
from kubexen.kube.reflector import Reflector
from kubexen.kube.resources import Object

logger = logging.getLogger("kubexen.agent")

WORKERS = 4
SETTLE_SECONDS = 2.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="kubexen-agent", description=__doc__)
    parser.add_argument("--node", default=socket.gethostname(), help="the name of this host's Node")
    parser.add_argument("--driver", default="xen:///system", help="xen:///system, or sim:///DIRECTORY")
    parser.add_argument("--root", type=Path, default=Path("/"), help="where this process sees the host's file system")
    parser.add_argument("--xen-root", type=Path, default=Path(os.environ.get("KUBEXEN_XEN_ROOT", "/")),
                        help="below it is the host's /usr, with what belongs to its Xen; default: $KUBEXEN_XEN_ROOT, or /")
    parser.add_argument("--kubeconfig", help="default: $KUBECONFIG, or the pod's own account")
    parser.add_argument("--namespace", default="kubexen-system", help="where Leases are kept")
    parser.add_argument("--full-look", type=float, default=30.0, help="seconds between two looks at every domain")
    parser.add_argument("--verbose", action="store_true")
    arguments = parser.parse_args()
    logging.basicConfig(
        level=logging.DEBUG if arguments.verbose else logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    asyncio.run(_main(arguments))


async def _main(arguments: argparse.Namespace) -> None:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    api = await Api.connect(arguments.kubeconfig, user_agent="kubexen-agent")
    try:
        hypervisor = await _open(arguments.driver, arguments.xen_root)
        try:
            await run(api, hypervisor, arguments)
        finally:
            hypervisor.close()
    except asyncio.CancelledError:
        logger.info("stopped; domains run on")
    finally:
        await api.close()


async def _open(uri: str, xen_root: Path) -> Hypervisor:
    """The driver, as soon as the host lets it be opened."""
    while True:
        try:
            return await asyncio.to_thread(connect, uri, xen_root)
        except HypervisorError as error:
            if error.retry_after is None:
                raise
            logger.warning("%s: %s", uri, error)
            await asyncio.sleep(error.retry_after)


async def run(api: Api, hypervisor: Hypervisor, arguments: argparse.Namespace) -> None:
    """All that the agent does, until it is cancelled. Raises when any part of it ends."""
    loop = asyncio.get_running_loop()
    node: str = arguments.node
    host = Host(hypervisor, node)
    boot_id = (await host.info()).boot_id
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
    storage, bridges = Directory(arguments.root), Bridges(arguments.root)

    def attached(namespace: str, disk: str) -> bool:
        """Whether a domain that is on this host names the disk."""
        here = {f"{s.owner.namespace}/{s.owner.name}" for s in host.domains.values() if s.owner}
        return any(
            key in here and any(d.get("disk") == disk for d in document["spec"].get("disks") or ())
            for key, document in domain_store.store.items()
            if key.startswith(f"{namespace}/")
        )

    events = EventRecorder(api, "kubexen-agent", node)
    disks = Disks(api, storage, node, pools, attached)
    domains = Domains(
        api, host, boot_id, events, store=domain_store.store, pools=pools, networks=networks, disks=disks,
        storage=storage, bridges=bridges,
    )
    reporter = HostReporter(api, host, orphans=domains.orphans, pools=pools, networks=networks, storage=storage,
                            bridges=bridges)

    async def reconcile_disk(key: str) -> float | None:
        document = disk_store.store.get(key)
        return await disks.reconcile(document) if document else None

    def changed(state: DomainState) -> None:
        if state.owner is not None:
            queue.add(f"{state.owner.namespace}/{state.owner.name}")

    async def look_at_all() -> None:
        """Levels, not edges: every domain of this node and on this host is looked at now and then."""
        while True:
            await asyncio.sleep(arguments.full_look)
            try:
                for line in await host.call(hypervisor.tidy):
                    logger.warning("%s", line)
            except HypervisorError as error:  # the agent outlives its hypervisor's daemon
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
        logger.info("%s: %d domains here, %d bound", node, len(host.domains), len(domain_store.store))
        await queue.run(domains.reconcile, WORKERS)

    def hint(_: str | None) -> None:
        loop.call_soon_threadsafe(host.hint)

    unsubscribe = hypervisor.subscribe(hint)
    try:
        async with asyncio.TaskGroup() as group:
            for store in (domain_store, disk_store, pool_store, network_store):
                group.create_task(store.run())
            lease = LeaseHolder(api, arguments.namespace, node, f"{node}_{os.getpid()}_{int(time.time())}")
            for part in (lease.run(), events.run(), reporter.run(), host.watch(changed), look_at_all(), work(),
                         disk_queue.run(reconcile_disk, 1)):
                group.create_task(part)
    finally:
        unsubscribe()
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
