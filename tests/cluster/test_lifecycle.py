"""The life of a domain, as its user asks for it with kubectl: applied, changed, paused, halted, deleted."""

from __future__ import annotations

from tests.cluster import manifests
from tests.cluster.tenant import KUBEXEN, Tenant, condition, is_ready, until, xl


def test_applied_it_runs_and_kubectl_reads_like_xl_list(tenant: Tenant) -> None:
    running = tenant.run(manifests.disk("web-root"), manifests.domain("web", disks=["web-root"], networks=["lan"]))
    status = running["web"]["status"]
    node, state = tenant.where("web")

    assert is_ready(running["web"]) and condition(running["web"], "DomainReady")["status"] == "True"
    assert (status["nodeName"], status["domid"], status["uuid"]) == (node, state.domid, state.uuid)
    header, row = (line.split() for line in tenant.kubectl("get", "xd", "web").splitlines())
    assert header == ["NAME", "ID", "MEM", "VCPUS", "STATE", "STATUS", "NODE", "AGE"]
    assert row[:4] == ["web", str(state.domid), "64Mi", "1"]
    assert row[4] in ("-b----", "r-----", "------")
    assert row[5:7] == ["Running", node]

    (disk,), (interface,) = status["disks"], status["interfaces"]
    assert (disk["name"], disk["target"]) == ("disk0", "xvda")
    assert (interface["name"], interface["mac"]) == ("eth0", status["macAddresses"]["eth0"])


def test_paused_and_back_it_is_the_same_domain(tenant: Tenant) -> None:
    domid = tenant.run(manifests.domain("web"))["web"]["status"]["domid"]

    tenant.power("web", "Paused")
    paused = tenant.wait_reason("web", "Paused")
    assert is_ready(paused)
    assert (paused["status"]["state"], paused["status"]["flags"]) == ("--p---", ["paused"])
    assert tenant.where("web")[1].flags.paused

    tenant.power("web", "Running")
    running = tenant.wait_reason("web", "Running")
    assert is_ready(running)
    assert running["status"]["domid"] == domid
    assert not tenant.where("web")[1].flags.paused


def test_applied_as_paused_it_never_ran(tenant: Tenant) -> None:
    tenant.apply(manifests.domain("web", powerState="Paused"))
    assert is_ready(tenant.wait_reason("web", "Paused"))
    node, state = tenant.where("web")
    assert state.flags.paused
    with xl(tenant.host(node)) as sim:
        assert not [call for call in sim.calls("unpause") if call.uuid == state.uuid]


def test_halted_it_holds_nothing_and_comes_back(tenant: Tenant) -> None:
    before = tenant.run(manifests.domain("web"))["web"]["status"]

    tenant.power("web", "Halted")
    halted = tenant.wait_reason("web", "Halted")
    assert is_ready(halted)
    assert not halted["status"].keys() & {"nodeName", "anchorUID", "domid", "state", "memory"}
    assert tenant.on_hosts("web") == []
    until(lambda: tenant.anchors("web") == [])
    node = tenant.host(before["nodeName"])
    with xl(node) as sim:
        ends = [call.name for call in sim.calls() if call.uuid == before["uuid"]]
    assert ends[-2:] == ["shutdown", "destroy"], "it was not asked before it was destroyed"

    tenant.power("web", "Running")
    again = tenant.wait_reason("web", "Running")["status"]
    assert again["uuid"] == before["uuid"]
    assert tenant.where("web")[1].domid == again["domid"]


def test_applied_as_halted_it_takes_no_place(tenant: Tenant) -> None:
    tenant.apply(manifests.domain("web", powerState="Halted"))
    assert is_ready(tenant.wait_reason("web", "Halted"))
    assert tenant.anchors("web") == []
    assert tenant.on_hosts("web") == []


def test_memory_changes_live_within_its_maximum(tenant: Tenant) -> None:
    domid = tenant.run(manifests.domain("web"))["web"]["status"]["domid"]
    for size in ("96Mi", "80Mi"):
        tenant.patch("web", memory={"size": size})
        found = tenant.wait("web", lambda found, size=size: found["status"]["memory"]["current"] == size)
        assert found["status"]["domid"] == domid
        assert tenant.where("web")[1].memory_kib == int(size[:2]) * 1024
        assert condition(tenant.wait_reason("web", "Running"), "RestartRequired")["status"] == ""


def test_what_needs_a_restart_is_named_and_waits_for_it(tenant: Tenant) -> None:
    domid = tenant.run(manifests.domain("web"))["web"]["status"]["domid"]

    tenant.patch("web", cpu={"count": 2}, memory={"max": "256Mi"}, onReboot="destroy", onCrash="destroy")
    changed = tenant.wait("web", lambda found: condition(found, "RestartRequired")["status"] == "True")
    message = condition(changed, "RestartRequired")["message"]
    for field in ("spec.cpu.count", "spec.memory.max", "spec.onReboot"):
        assert field in message
    assert "onCrash" not in message, "that one is live"
    assert changed["status"]["domid"] == domid

    tenant.power("web", "Halted")
    tenant.wait_reason("web", "Halted")
    tenant.power("web", "Running")
    again = tenant.wait_reason("web", "Running")
    assert condition(again, "RestartRequired")["status"] == ""
    assert tenant.where("web")[1].vcpus == 2


def test_a_raised_maximum_is_held_by_an_anchor_before_a_crashed_domain_takes_it(tenant: Tenant) -> None:
    domid = tenant.run(manifests.domain("web"))["web"]["status"]["domid"]
    before = tenant.anchor("web")

    tenant.patch("web", memory={"max": "1000Mi"}, cpu={"max": 2})
    tenant.wait("web", lambda found: condition(found, "RestartRequired")["status"] == "True")
    with xl(tenant.host_of("web")) as sim:
        sim.guest_crash(tenant.xl_name("web"))
    again = tenant.wait_restarted("web", domid)

    assert condition(again, "RestartRequired")["status"] == ""
    assert tenant.where("web")[1].max_memory_kib == 1000 * 1024
    until(lambda: len(tenant.anchors("web")) == 1)
    after = tenant.anchor("web")
    assert after["metadata"]["uid"] == again["status"]["anchorUID"] != before["metadata"]["uid"]
    # 1000 MiB, 1 for the domain, 2 for its vCPUs, 8 for page tables
    assert after["spec"]["containers"][0]["resources"]["requests"]["kubexen.dev/memory-mib"] == "1011"


def test_deleted_it_leaves_nothing_but_what_is_to_be_retained(tenant: Tenant) -> None:
    tenant.run(
        manifests.disk("scratch", reclaimPolicy="Delete"),
        manifests.disk("keep", reclaimPolicy="Retain"),
        manifests.domain("web", disks=["scratch", "keep"]),
    )
    node, _ = tenant.where("web")
    scratch, keep = (tenant.data_of(name, node) for name in ("scratch", "keep"))
    assert scratch.stat().st_size == keep.stat().st_size == 1024**2

    tenant.delete("xd", "web")
    assert tenant.on_hosts("web") == []
    until(lambda: tenant.anchors("web") == [])
    assert scratch.exists(), "a disk outlives its domain"

    tenant.delete("xdisk", "scratch", "keep")
    assert not scratch.exists()
    assert keep.exists()
    keep.unlink()


def test_a_guest_that_does_not_answer_is_destroyed_after_its_grace_period(tenant: Tenant) -> None:
    tenant.run(manifests.domain("deaf", shutdownGracePeriodSeconds=2), manifests.domain("busy"))
    with xl(tenant.host_of("deaf")) as sim:
        sim.ignore_shutdown(tenant.xl_name("deaf"))
    tenant.delete("xd", "deaf")
    assert tenant.on_hosts("deaf") == []
    assert "within 2 s" in tenant.wait_event("deaf", "Destroying")["note"]
    assert tenant.on_hosts("busy")


def test_flags_that_do_not_last_are_seen_too(tenant: Tenant) -> None:
    tenant.run(manifests.domain("web"))
    host = tenant.host_of("web")
    with xl(host) as sim:
        sim.set(destroy_ms=3000)
        try:
            tenant.power("web", "Halted")
            dying = tenant.wait("web", lambda found: found["status"].get("state") == "-----d")
            assert dying["status"]["flags"] == ["dying"]
            assert condition(dying, "Ready")["reason"] == "Stopping"
            tenant.wait_reason("web", "Halted")
        finally:
            sim.set(destroy_ms=0)


def test_somebody_elses_domain_is_shown_and_left_alone(tenant: Tenant) -> None:
    host = tenant.stack.hosts[0]
    path = f"{KUBEXEN}/xenhosts/{host.name}"
    name = f"by-hand-{tenant.namespace}"

    def unmanaged(found: dict) -> list[dict]:  # type: ignore[type-arg]
        return [domain for domain in found["status"].get("unmanaged", ()) if domain["name"] == name]

    with xl(tenant.host(host.name)) as sim:
        uuid = sim.xl_create_unmanaged(name, 256 * 1024)
        try:
            (shown,) = unmanaged(tenant.api.wait(path, unmanaged, 120))
            assert (shown["uuid"], shown["memory"]) == (uuid, "256Mi")
            tenant.run(manifests.domain("web"), on=host.name)
            assert name in [state.name for state in sim.list()]
        finally:
            sim.xl_destroy(name)
    tenant.api.wait(path, lambda found: not unmanaged(found), 120)


def test_a_domain_whose_object_was_torn_away_is_listed_and_never_touched(tenant: Tenant) -> None:
    tenant.run(manifests.domain("web"))
    node, before = tenant.where("web")
    path = f"{KUBEXEN}/xenhosts/{node}"
    host = tenant.host(node)

    def orphaned(found: dict) -> list[dict]:  # type: ignore[type-arg]
        return [o for o in found["status"].get("orphaned", ()) if o["namespace"] == tenant.namespace]

    tenant.stack.controller.stop()  # it would put its finalizer back
    try:
        tenant.api.patch(tenant.path("xd", "web"), {"metadata": {"finalizers": None}})
        tenant.api.delete(tenant.path("xd", "web"))
    finally:
        tenant.stack.start_controller()
    (shown,) = orphaned(tenant.api.wait(path, orphaned, 120))
    assert (shown["name"], shown["uuid"]) == ("web", before.uuid)

    host.restart_agent()
    tenant.api.wait(path, orphaned, 120)
    tenant.run(manifests.domain("other"), on=node)
    assert tenant.where("web")[1].domid == before.domid

    with xl(host) as sim:
        sim.xl_destroy(tenant.xl_name("web"))
    tenant.api.wait(path, lambda found: not orphaned(found), 120)


def test_what_waits_for_a_node_that_is_not_there_is_placed_as_the_spec_says_by_then(tenant: Tenant) -> None:
    host = tenant.stack.hosts[1].name
    tenant.apply(manifests.domain("web", nodeSelector={"kubernetes.io/hostname": "nowhere"}))
    tenant.wait_reason("web", "WaitingForNode")
    tenant.patch("web", nodeSelector={"kubernetes.io/hostname": host})
    assert is_ready(tenant.wait_reason("web", "Running"))
    assert tenant.where("web")[0] == host
    tenant.anchor("web")
