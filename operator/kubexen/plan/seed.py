"""A domain's cloud-init seed (NoCloud): which files it has, and what is in those that Kubexen writes itself.

resolve.py uses it for the seed's disk, the agent for the files. It reads no Secret: user data is the agent's to add.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping
from string import ascii_lowercase
from typing import Any

from kubexen.api.conditions import Reason
from kubexen.api.devices import DomainInterface, SecretKey
from kubexen.api.xendomain import XenDomain
from kubexen.api.xennetwork import AddressRange, XenNetwork
from kubexen.plan.problem import Problem

SEEDS = "/run/kubexen/seeds"
DEVICE = "seed"

VOLUME_LABEL = "cidata"
"""What cloud-init looks for."""

USER_DATA, NETWORK_DATA = "user-data", "network-data"
"""Names of the anchor's volumes, and of the one file in each."""

LONGEST_INTERFACE = 15
"""Characters of a Linux interface's name."""

VENDOR_DATA = """\
#!/bin/sh
# A vCPU that Xen adds stays offline until somebody in the guest turns it on.
rule=/etc/udev/rules.d/90-kubexen-vcpus.rules
mkdir -p /etc/udev/rules.d
echo 'SUBSYSTEM=="cpu", ACTION=="add", TEST=="online", ATTR{online}=="0", ATTR{online}="1"' > $rule
udevadm control --reload || true
"""
"""A script and no #cloud-config: that would be merged with the user's, where a list of one replaces the other's."""


def target(domain: XenDomain) -> str:
    """The seed's device in the guest: the last letter that no disk of the spec has."""
    taken = {disk.target.rstrip("0123456789") for disk in domain.spec.disks}
    letters = [*reversed(ascii_lowercase), *(f"a{letter}" for letter in reversed(ascii_lowercase))]
    letters += [f"b{letter}" for letter in reversed(ascii_lowercase)]
    return next(f"xvd{letter}" for letter in letters if f"xvd{letter}" not in taken)


def secrets(domain: XenDomain) -> dict[str, SecretKey]:
    """The keys of Secrets that the anchor mounts, by the name of the volume."""
    given = domain.spec.cloud_init
    wanted = {USER_DATA: given.user_data, NETWORK_DATA: given.network_data} if given else {}
    return {name: key for name, key in wanted.items() if key is not None}


def word(volume: str, secret: str, key: str) -> str:
    """A key of a Secret among what an anchor mounts."""
    return f"secret/{secret}/{key} as {volume}"


def field(volume: str) -> str:
    """The field of a spec that a volume of `secrets` comes from."""
    return "spec.cloudInit.userData" if volume == USER_DATA else "spec.cloudInit.networkData"


def check(domain: XenDomain) -> None:
    """Raises Problem for what contradicts itself."""
    given = domain.spec.cloud_init
    if given is None or given.network_data is None:
        return
    for interface in domain.spec.interfaces:
        if interface.address:
            raise Problem(
                Reason.INVALID_SPEC,
                f"spec.interfaces[{interface.name}].address: spec.cloudInit.networkData says all of the guest's network; "
                "take one of the two out",
                stalled=True,
            )


def files(domain: XenDomain, uuid: str, networks: Mapping[str, XenNetwork], given: Mapping[str, bytes]) -> dict[str, bytes]:
    """The seed's files by name.

    Args:
        networks: by interface.
        given: what the Secrets hold, by the name of the volume.

    Raises:
        Problem: InvalidSpec, for an address that is in no subnet of its network.
    """
    metadata = {"instance-id": uuid, "local-hostname": domain.metadata.name}
    result = {
        "meta-data": _text(metadata),
        "user-data": given.get(USER_DATA, b"#cloud-config\n{}\n"),
        "vendor-data": VENDOR_DATA.encode(),
    }
    if NETWORK_DATA in given:
        result["network-config"] = given[NETWORK_DATA]
    elif any(interface.address for interface in domain.spec.interfaces):
        result["network-config"] = _text(network_config(domain, networks))
    return result


def network_config(domain: XenDomain, networks: Mapping[str, XenNetwork]) -> dict[str, Any]:
    """cloud-init's network configuration, version 2: each interface by its MAC address. JSON is YAML."""
    ethernets = {}
    for interface in domain.spec.interfaces:
        mac = domain.status.mac_addresses.get(interface.name)
        if mac is None:
            continue  # the agent does not start a domain without
        ethernets[interface.name] = {
            "match": {"macaddress": mac},
            # Not every distribution finds an interface by its MAC: the name makes sure.
            **({"set-name": interface.name} if len(interface.name) <= LONGEST_INTERFACE else {}),
            **_addresses(interface, networks[interface.name]),
        }
    return {"version": 2, "ethernets": ethernets}


def _addresses(interface: DomainInterface, network: XenNetwork) -> dict[str, Any]:
    if interface.address is None:
        return {"dhcp4": True}
    found = subnet(interface, network)
    length = ipaddress.ip_network(found.subnet).prefixlen
    result: dict[str, Any] = {"addresses": [f"{interface.address}/{length}"]}
    if found.gateway:
        any_ = "::/0" if ":" in interface.address else "0.0.0.0/0"
        result["routes"] = [{"to": any_, "via": found.gateway}]
    if found.nameservers:
        result["nameservers"] = {"addresses": list(found.nameservers)}
    return result


def subnet(interface: DomainInterface, network: XenNetwork) -> AddressRange:
    """The subnet of the network that the interface's address is in: an address alone has no length."""
    address = ipaddress.ip_address(interface.address or "")
    for range_ in network.spec.addresses:
        if address in ipaddress.ip_network(range_.subnet):
            return range_
    raise Problem(
        Reason.INVALID_SPEC,
        f"spec.interfaces[{interface.name}].address: {interface.address} is in no subnet of XenNetwork "
        f"{network.metadata.name!r} (its spec.addresses); give another address, ask an administrator to add the subnet, "
        "or give spec.cloudInit.networkData instead",
        stalled=True,
    )


def _text(document: dict[str, Any]) -> bytes:
    return (json.dumps(document, indent=2) + "\n").encode()
