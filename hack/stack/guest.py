"""The small guest that the tests of real hosts apply, and the bench of an install."""

from __future__ import annotations

from typing import Any

NAME = "guest"
XL_NAME = f"default.{NAME}"


def manifest(name: str = NAME, **spec: Any) -> dict[str, Any]:
    """A small paravirtual domain, unless the spec says otherwise."""
    file = {"pool": "images"}
    return {
        "apiVersion": "kubexen.dev/v1alpha1",
        "kind": "XenDomain",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "type": "pv",
            "boot": {"direct": {"kernel": file | {"file": "vmlinux"}, "initrd": file | {"file": "initrd.gz"},
                                "cmdline": "console=hvc0 quiet"}},
            "memory": {"size": "128Mi", "max": "192Mi"},
            **spec,
        },
    }
