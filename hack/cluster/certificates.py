"""What proves who is who in the cluster: certificates, the key of ServiceAccount tokens, static tokens.

Called by cluster.py when the state folder is new, and for each kubelet. What is the cluster's is made once and kept, so
that kubeconfigs outlive a restart.
"""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass
from pathlib import Path

import trustme
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

# 10.0.2.2 is how a guest of QEMU's user network reaches this machine's loopback; 10.96.0.1 is the Service `kubernetes`.
SERVER_NAMES = (
    "127.0.0.1",
    "localhost",
    "10.0.2.2",
    "10.96.0.1",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)
USERS = {  # name: groups. RBAC's bootstrap policy knows the two of Kubernetes by their names
    "admin": "system:masters",
    "kwok": "system:masters",
    "system:kube-controller-manager": "",
    "system:kube-scheduler": "",
}


@dataclass(frozen=True)
class Credentials:
    """The files of STATE/pki."""

    folder: Path

    @property
    def ca(self) -> Path:
        return self.folder / "ca.crt"

    @property
    def ca_key(self) -> Path:
        return self.folder / "ca.key"

    @property
    def server_certificate(self) -> Path:
        return self.folder / "server.crt"

    @property
    def server_key(self) -> Path:
        return self.folder / "server.key"

    @property
    def kubelet_client_certificate(self) -> Path:
        """By which the API server proves to kubelets who it is."""
        return self.folder / "kubelet-client.crt"

    @property
    def kubelet_client_key(self) -> Path:
        return self.folder / "kubelet-client.key"

    @property
    def service_account_key(self) -> Path:
        return self.folder / "sa.key"

    @property
    def service_account_public_key(self) -> Path:
        return self.folder / "sa.pub"

    @property
    def tokens(self) -> Path:
        return self.folder / "tokens.csv"

    def token(self, user: str) -> str:
        rows = (line.split(",") for line in self.tokens.read_text().splitlines())
        return next(row[0] for row in rows if row[1] == user)

    def ensure(self) -> None:
        """Make what is not there yet. The tokens come last: with them it is complete."""
        if self.tokens.exists():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        authority = trustme.CA(organization_name="Kubexen test cluster")
        server = authority.issue_cert(*SERVER_NAMES)
        authority.cert_pem.write_to_path(self.ca)
        authority.private_key_pem.write_to_path(self.ca_key)
        server.private_key_pem.write_to_path(self.server_key)
        self.server_certificate.write_bytes(b"".join(blob.bytes() for blob in server.cert_chain_pems))
        certificate, key = self.issue("kube-apiserver", "system:masters", "kube-apiserver")
        self.kubelet_client_certificate.write_text(certificate)
        self.kubelet_client_key.write_text(key)
        self._make_service_account_key()
        rows = (f'{secrets.token_urlsafe(32)},{user},{user},"{groups}"' for user, groups in USERS.items())
        self.tokens.write_text("\n".join(rows) + "\n")

    def issue(self, user: str, group: str, *names: str) -> tuple[str, str]:
        """A new certificate and its key: of a user in a group, and of a server with these names or addresses."""
        authority = trustme.CA.from_pem(self.ca.read_bytes(), self.ca_key.read_bytes())
        issued = authority.issue_cert(*names, common_name=user, organization_name=group)
        chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        return chain.decode(), issued.private_key_pem.bytes().decode()

    def _make_service_account_key(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.service_account_key.write_bytes(private)
        self.service_account_public_key.write_bytes(public)


def kubeconfig(server: str, ca: bytes, token: str) -> str:
    """A kubeconfig of one cluster and one user, with everything inside it, so that it can be carried elsewhere."""
    return _kubeconfig(server, ca, {"token": token})


def kubeconfig_by_certificate(server: str, ca: bytes, certificate: str, key: str) -> str:
    """The same for a user who has a certificate."""
    return _kubeconfig(server, ca, {"client-certificate-data": _base64(certificate), "client-key-data": _base64(key)})


def _kubeconfig(server: str, ca: bytes, user: dict[str, str]) -> str:
    cluster = {"server": server, "certificate-authority-data": _base64(ca.decode())}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "kubexen", "cluster": cluster}],
        "users": [{"name": "kubexen", "user": user}],
        "contexts": [{"name": "kubexen", "context": {"cluster": "kubexen", "user": "kubexen"}}],
        "current-context": "kubexen",
    }
    return yaml.safe_dump(document, sort_keys=False)


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
