"""No secret passes: the marked one is put wherever it could leak, and may be nowhere in what comes out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kubexen.cli.doctor import redact

MARK = "hunter2-xyzzy"
TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJtYXJrIn0.c2lnbmF0dXJl"


def pod(**container: Any) -> dict[str, Any]:
    return {"kind": "Pod", "metadata": {"name": "web"}, "spec": {"containers": [{"name": "a", **container}]}}


def annotated(name: str) -> dict[str, Any]:
    return {"kind": "XenDomain", "metadata": {"name": "web", "annotations": {name: f'{{"spec": "{MARK}"}}'}}}


DOCUMENTS: dict[str, dict[str, Any]] = {
    "what kubectl keeps of the last apply": annotated("kubectl.kubernetes.io/last-applied-configuration"),
    "any other annotation": annotated("example.com/note"),
    "a label of somebody's": {"metadata": {"labels": {"example.com/key": MARK}}},
    "an environment variable": pod(env=[{"name": "ANYTHING", "value": MARK}]),
    "an argument": pod(args=["kubexen-agent", f"--password={MARK}", "--token", MARK, MARK, f"x={MARK}"]),
    "a command": pod(command=["sh", "-c", f"login {MARK}"]),
    "a command that is an assignment": pod(command=[f"PASSWORD={MARK}"]),
    "a probe's command": pod(livenessProbe={"exec": {"command": ["curl", "-u", f"me:{MARK}"]}}),
    "a probe's header": pod(livenessProbe={"httpGet": {"httpHeaders": [{"name": "Authorization", "value": MARK}]}}),
    "a volume's attributes": {"spec": {"volumes": [{"csi": {"volumeAttributes": {"chap": MARK}}}]}},
    "a kernel's parameter": {"spec": {"boot": {"direct": {"cmdline": f"console=hvc0 password={MARK} {MARK} s={MARK}"}}}},
    "Xen's parameter": {"status": {"xen": {"commandLine": f"dom0_mem=1G gdb={MARK}"}}},
    "cloud-init in place": {"spec": {"cloudInit": {"userData": f"password: {MARK}", "networkData": {"inline": MARK}}}},
    "a field that is named so": {"spec": {"vncPassword": MARK, "apiKey": MARK, "token": MARK}},
    "a Secret's fields, should one ever come": {"kind": "Secret", "stringData": {"a": MARK}},
    "a message that quotes it": {"status": {"conditions": [{"message": f"cannot log in with password={MARK}"}]}},
    "an address with a password": {"spec": {"source": {"url": f"https://me:{MARK}@example.com/image"}}},
    "an argument of a boot loader": {"spec": {"boot": {"bootloader": {"args": [f"--secret={MARK}"]}}}},
}

TEXTS = {
    "an assignment": f"PASSWORD={MARK}",
    "a longer name": f"db_password_file: {MARK}",
    "JSON": f'{{"token": "{MARK} more"}}',
    "YAML": f"  api-key: '{MARK}'",
    "a header": f"Authorization: Bearer {MARK}",
    "an address": f"GET https://me:{MARK}@example.com/",
    "a key": f"-----BEGIN RSA PRIVATE KEY-----\n{MARK}\n-----END RSA PRIVATE KEY-----",
    "a key that is cut off": f"-----BEGIN PRIVATE KEY-----\n{MARK}",
}


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS.keys())
def test_no_secret_is_left_in_a_document(document: dict[str, Any]) -> None:
    assert MARK in json.dumps(document)
    assert MARK not in json.dumps(redact.document(document))


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_no_secret_is_left_in_a_text(text: str) -> None:
    assert MARK not in redact.text(text)


def test_a_token_is_known_by_its_form() -> None:
    assert redact.text(f"got {TOKEN}.") == f"got {redact.GONE}."


def test_what_helps_stays() -> None:
    found = redact.document({
        "kind": "Pod",
        "metadata": {"name": "web-anchor", "uid": "u", "labels": {"kubexen.dev/domain": "web"}, "managedFields": [{}]},
        "spec": {
            "containers": [{"image": "pause:3.10", "command": ["kubexen-agent"], "args": ["--node=xen1", "--driver=xen:///system"],
                            "env": [{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]}],
            "volumes": [{"secret": {"secretName": "web"}}],
            "boot": {"direct": {"cmdline": "root=/dev/xvda1 ro quiet"}},
            "cloudInit": {"userData": {"secretName": "web", "key": "userdata"}},
        },
        "status": {"data": "Present", "conditions": [{"reason": "Running", "message": "Running on xen1."}]},
    })  # fmt: skip
    assert found == {
        "kind": "Pod",
        "metadata": {"name": "web-anchor", "uid": "u", "labels": {"kubexen.dev/domain": "web"}},
        "spec": {
            "containers": [{"image": "pause:3.10", "command": ["kubexen-agent"], "args": ["--node=xen1", "--driver=xen:///system"],
                            "env": [{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]}],
            "volumes": [{"secret": {"secretName": "web"}}],
            "boot": {"direct": {"cmdline": "root=/dev/xvda1 ro quiet"}},
            "cloudInit": {"userData": {"secretName": "web", "key": "userdata"}},
        },
        "status": {"data": "Present", "conditions": [{"reason": "Running", "message": "Running on xen1."}]},
    }  # fmt: skip


def test_the_original_is_left_alone() -> None:
    document = annotated("example.com/note")
    redact.document(document)
    assert MARK in json.dumps(document)
