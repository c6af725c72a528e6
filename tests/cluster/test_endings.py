"""A guest that ends by itself: it powers off, reboots or crashes, and onPoweroff, onReboot and onCrash say what is next."""

from __future__ import annotations

from tests.cluster import manifests
from tests.cluster.tenant import Tenant, condition, is_ready, until, xl


def test_a_guest_that_powers_off_stays_off_until_it_is_started(tenant: Tenant) -> None:
    tenant.run(manifests.domain("web"))
    with xl(tenant.host_of("web")) as sim:
        sim.guest_poweroff(tenant.xl_name("web"))
    assert is_ready(tenant.wait_reason("web", "PoweredOff")), "that is as its spec asks"
    off = tenant.wait("web", lambda found: "nodeName" not in found["status"])
    assert "domid" not in off["status"]
    assert is_ready(off)

    tenant.run(manifests.domain("other"))  # as much time as a start takes
    assert tenant.on_hosts("web") == []
    until(lambda: tenant.anchors("web") == [])
    assert condition(tenant.get("web"), "Ready")["reason"] == "PoweredOff"

    tenant.apply(manifests.action("start-web", "web"))
    tenant.wait_reason("web", "Running")
    done = tenant.wait("start-web", lambda found: found["status"]["phase"] == "Succeeded", "xact")
    assert condition(done, "Ready")["status"] == "True"


def test_a_start_that_is_asked_for_while_the_guest_is_still_being_ended(tenant: Tenant) -> None:
    tenant.run(manifests.domain("web"))
    with xl(tenant.host_of("web")) as sim:
        sim.set(destroy_ms=4000)
        try:
            sim.guest_poweroff(tenant.xl_name("web"))
            ending = tenant.wait_reason("web", "Stopping")
            assert ending["status"]["nodeName"], "it is not given up yet"
            tenant.apply(manifests.action("start-web", "web"))
            tenant.wait("web", lambda found: found["status"].get("nodeName") is None)
        finally:
            sim.set(destroy_ms=0)
    tenant.wait_reason("web", "Running")
    tenant.wait("start-web", lambda found: found["status"]["phase"] == "Succeeded", "xact")


def test_a_domain_that_is_kept_is_not_started(tenant: Tenant) -> None:
    tenant.run(manifests.domain("web", onPoweroff="preserve"))
    with xl(tenant.host_of("web")) as sim:
        sim.guest_poweroff(tenant.xl_name("web"))
    tenant.wait_reason("web", "PoweredOff")
    tenant.apply(manifests.action("start-web", "web"))
    failed = tenant.wait("start-web", lambda found: found["status"]["phase"] == "Failed", "xact")
    assert "powerState to Halted and back" in failed["status"]["message"]


def test_halted_and_back_starts_what_had_powered_off(tenant: Tenant) -> None:
    tenant.run(manifests.domain("web"))
    with xl(tenant.host_of("web")) as sim:
        sim.guest_poweroff(tenant.xl_name("web"))
    tenant.wait_reason("web", "PoweredOff")
    tenant.power("web", "Halted")
    tenant.wait_reason("web", "Halted")
    tenant.power("web", "Running")
    tenant.wait_reason("web", "Running")
    assert tenant.where("web")[1].name == tenant.xl_name("web")


def test_a_guest_that_reboots_has_a_new_domid_on_the_same_host(tenant: Tenant) -> None:
    before = tenant.run(manifests.domain("web"))["web"]["status"]
    with xl(tenant.host_of("web")) as sim:
        sim.guest_reboot(tenant.xl_name("web"))
    after = tenant.wait_restarted("web", before["domid"])["status"]
    assert (after["nodeName"], after["uuid"]) == (before["nodeName"], before["uuid"])
    assert tenant.where("web")[1].domid == after["domid"]


def test_a_guest_that_crashes_is_started_again_or_ended_or_kept(tenant: Tenant) -> None:
    names = ("restart", "destroy", "preserve")
    before = tenant.run(*(manifests.domain(name, onCrash=name) for name in names))
    for name in names:
        with xl(tenant.host_of(name)) as sim:
            sim.guest_crash(tenant.xl_name(name))

    tenant.wait_restarted("restart", before["restart"]["status"]["domid"])
    assert "crash" in tenant.wait_event("restart", "Restarting")["note"]

    ended = tenant.wait("destroy", lambda found: "XenAction Start" in condition(found, "Ready")["message"])
    assert (is_ready(ended), condition(ended, "Ready")["reason"]) == (False, "Crashed")
    until(lambda: tenant.on_hosts("destroy") == [])
    until(lambda: tenant.anchors("destroy") == [])

    kept = tenant.wait_reason("preserve", "Crashed")
    assert (kept["status"]["state"], kept["status"]["flags"]) == ("---sc-", ["shutdown", "crashed"])
    assert kept["status"]["domid"] == tenant.where("preserve")[1].domid == before["preserve"]["status"]["domid"]
    tenant.power("preserve", "Halted")
    tenant.wait_reason("preserve", "Halted")
    tenant.power("preserve", "Running")
    tenant.wait_reason("preserve", "Running")


def test_a_crash_loop_is_backed_off_and_told(tenant: Tenant) -> None:
    domid = tenant.run(manifests.domain("web"))["web"]["status"]["domid"]
    with xl(tenant.host_of("web")) as sim:
        sim.guest_crash(tenant.xl_name("web"))
        domid = tenant.wait_restarted("web", domid)["status"]["domid"]
        sim.guest_crash(tenant.xl_name("web"))
    looping = tenant.wait_reason("web", "CrashLoop")
    assert not is_ready(looping)
    assert "the next start waits" in condition(looping, "Ready")["message"]
    assert tenant.on_hosts("web") == []

    again = tenant.wait_reason("web", "Running")["status"]
    assert again["domid"] != domid
    assert again["nodeName"] == looping["status"]["nodeName"], "its place was kept"
