"""The size and the speed of a simulated host, from its URI or from SimHost.set; read by all of this package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from kubexen.hypervisor.errors import InvalidConfig

_UNITS = {"Ki": 1, "Mi": 1024, "Gi": 1024**2, "Ti": 1024**3}


@dataclass(frozen=True)
class Settings:
    """Every field is a parameter of the URI. Memory takes Ki, Mi, Gi or Ti there, and is KiB here."""

    cpus: int = 4
    memory: int = 8 * 1024**2  # of the machine
    dom0_memory: int = 1024**2
    create_ms: int = 50  # building a domain
    boot_ms: int = 50  # from the first instruction until the frontends are connected
    shutdown_ms: int = 200  # a guest's way to power off
    reboot_ms: int = 100  # from a guest's reboot until its next incarnation runs
    balloon_ms: int = 100  # from one size to another
    destroy_ms: int = 0  # a domain's memory is scrubbed, flag d
    flicker: float = 0.1  # share of the samples of r and b that differ from the usual one
    hints: int = 1  # 0: every hint is lost
    version: str = "4.17.5"  # xen_version
    command_line: str = "dom0_mem=1024M,max:1024M"  # xen_commandline

    @classmethod
    def parse(cls, texts: Mapping[str, str]) -> Settings:
        """Settings from their texts; what is not given has its default.

        Raises:
            InvalidConfig: an unknown name or a value that is none.
        """
        known = {field.name: field for field in fields(cls)}
        values: dict[str, int | float | str] = {}
        for name, text in texts.items():
            if name not in known:
                raise InvalidConfig(f"the simulator has no setting {name!r}: {', '.join(known)}")
            try:
                values[name] = _number(name, text) if known[name].type != "str" else text
            except ValueError:
                raise InvalidConfig(f"{name}={text!r} is not a number of this setting") from None
        return cls(**values)  # type: ignore[arg-type]


def _number(name: str, text: str) -> int | float:
    if name == "flicker":
        number: int | float = float(text)
    elif name in ("memory", "dom0_memory"):
        number = int(text[:-2]) * _UNITS[text[-2:]] if text[-2:] in _UNITS else int(text)
    else:
        number = int(text)
    if number < 0:
        raise ValueError(text)
    return number


def parse_uri(uri: str) -> tuple[Path, dict[str, str]]:
    """The directory and the settings of `sim:///DIRECTORY?name=value&...`.

    Raises:
        InvalidConfig: another form.
    """
    parts = urlsplit(uri)
    if parts.scheme != "sim" or parts.netloc or not parts.path.startswith("/") or parts.path == "/":
        raise InvalidConfig(f"{uri!r} is not sim:///ABSOLUTE/DIRECTORY")
    settings = dict(parse_qsl(parts.query, keep_blank_values=True))
    Settings.parse(settings)
    return Path(unquote(parts.path)), settings
