"""XenNetwork: a bridge on every node, its addresses and limits, and which namespaces may use it.

An administrator's kind. Whether a host has the bridge is told per host in XenHost's status.
"""

from typing import ClassVar

from pydantic import ConfigDict, Field

from kubexen.api.base import SpecModel, list_map, rules
from kubexen.api.fields import Cidr, IpAddress, Rate
from kubexen.api.kind import AGE, MESSAGE, REASON, STATUS_DEFAULT, Column, ConditionedStatus, KindInfo, Resource
from kubexen.api.meta import LabelSelector


class MacPool(SpecModel):
    """Where MAC addresses that no user chose come from."""

    prefix: str = Field(
        default="00:16:3e",
        max_length=14,
        pattern=r"^[0-9a-f][02468ace](:[0-9a-f]{2}){2,4}$",
        description="The first bytes of each MAC address, as in 00:16:3e (Xen's own); xl: mac of vif.",
    )


class AddressRange(SpecModel):
    """A range of IP addresses to hand out."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            ("cidr(self.subnet).containsIP(self.first)", "first must be in subnet"),
            ("cidr(self.subnet).containsIP(self.last)", "last must be in subnet"),
        )
    )

    subnet: Cidr = Field(description="The network, as in 192.0.2.0/24; no xl key.")
    first: IpAddress = Field(description="The first address to hand out; xl: ip of vif.")
    last: IpAddress = Field(description="The last address to hand out; xl: ip of vif.")
    gateway: IpAddress | None = Field(default=None, description="The guests' default gateway; no xl key.")
    nameservers: list[IpAddress] = Field(
        default=[], max_length=8, description="The guests' name servers; no xl key."
    )


class RateLimits(SpecModel):
    """How much guests may send."""

    default: Rate | None = Field(
        default=None, description="For interfaces that give no rate, as in 10Mb/s (bits) or 1MB/s (bytes); xl: rate of vif."
    )
    max: Rate | None = Field(
        default=None, description="The most that an interface may ask for, as in 1Gb/s; xl: rate of vif."
    )


class XenNetworkSpec(SpecModel):
    """What the network is to be."""

    bridge: str = Field(
        max_length=15,
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$",
        description="The bridge on each host; xl: bridge of vif.",
    )
    vlan: int | None = Field(default=None, ge=1, le=4094, description="The VLAN id of the guests' frames; no xl key.")
    mtu: int | None = Field(default=None, ge=576, le=65535, description="The largest packet, in bytes; xl: mtu of vif.")
    mac_pool: MacPool | None = Field(
        default=None, description="Where MAC addresses come from (default: the prefix 00:16:3e); xl: mac of vif."
    )
    addresses: list[AddressRange] = Field(
        default=[],
        max_length=16,
        description="IP addresses to hand out; xl: ip of vif.",
        json_schema_extra=list_map("first"),
    )
    rate: RateLimits | None = Field(default=None, description="Rate limits; xl: rate of vif.")
    namespace_selector: LabelSelector | None = Field(
        default=None,
        description="Labels of the namespaces that may use it (default: none may; an empty selector: all may); no xl key.",
    )


class XenNetworkStatus(ConditionedStatus):
    """What the network is."""


class XenNetwork(Resource):
    """A network for Xen domains."""

    info: ClassVar = KindInfo(
        kind="XenNetwork",
        plural="xennetworks",
        short_name="xnet",
        scope="Cluster",
        columns=(
            Column("Bridge", ".spec.bridge"),
            Column("VLAN", ".spec.vlan", "integer"),
            REASON,
            AGE,
            MESSAGE,
        ),
        status_default=STATUS_DEFAULT,
    )

    kind: str = "XenNetwork"
    spec: XenNetworkSpec
    status: XenNetworkStatus = Field(default_factory=XenNetworkStatus)

