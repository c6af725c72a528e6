"""Makes the dom0 of a lab host a real node: containerd and a kubelet as its systemd units, with images loaded.

Called by stack.py. What they are told comes from hack/cluster/nodeconfig.py, as for a node on this machine; crun and the
CNI plugins are dom0's packages.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from hack import needs
from hack.cluster import nodeconfig
from hack.cluster.cluster import Cluster
from hack.cluster.kubelet import lacking
from hack.tools.build import binary
from hack.xenlab.host import MACHINE, XenHost

UNITS = Path(__file__).with_name("units")
CRUN = Path(__file__).with_name("crun")
FOLDER = "/opt/kubernetes"  # where dom0 sees the disk
DEBIAN_GUEST = f"{FOLDER}/debian"
"""A folder with the disk of a Debian guest, disk.img."""
PACKED = "images"
"""A folder with the images that containerd in dom0 is to unpack."""
UNPACK = (
    f"for image in {FOLDER}/{PACKED}/*.tar; do "
    f"if [ -e $image ]; then {FOLDER}/bin/ctr -n k8s.io images import --local $image && rm $image || exit 1; fi; done"
)
SETTINGS = PurePosixPath("/etc/kubernetes")
CNI = "/etc/cni/net.d"
RUNTIME = "/usr/local/sbin/crun"
"""To start a container, runc takes four seconds of an emulated CPU and crun one; and it starts two for each pod."""
WEIGHTS = {"system.slice": 300, "libvirtd.service": 1000}
"""Of an emulated CPU; the kubelet's slice has 30, pods have 39. libxl gives a disk's script 40 s: three at once took longer."""
LEASE_SECONDS = 40
GRACE_SECONDS = 90
"""A kubelet was kept from its Lease for over 40 s while two domains started at once."""
SPARE = 2 << 30  # bytes for containers and more images; the file is sparse


# containerd in a mount namespace of its own: it unpacks images into the folder that will be its own in dom0.
SEED = """
mount -t tmpfs tmpfs /run
containerd --config "$1" >"$2" 2>&1 &
until ctr version >/dev/null 2>&1; do kill -0 $!; sleep 0.05; done
shift 2
for image; do ctr -n k8s.io images import --local "$image"; done
kill $!
wait $! || true
"""


def make_disk(images: Sequence[Path], target: Path, debian_guest: Path | None = None) -> None:
    """Write the programs, and images as containerd keeps them, to the disk that hosts get; and a guest's disk, see DEBIAN_GUEST.

    To copy them through ssh takes a minute a host, and to unpack an image on an emulated CPU three: `install` does that where this
    machine's rights allow no containerd.
    """
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "disk"
        (folder / "bin").mkdir(parents=True)
        for program in ("containerd", "containerd-shim-runc-v2", "ctr", "kubelet"):
            shutil.copy2(binary(program), folder / "bin")
        if debian_guest is not None:
            (folder / "debian").mkdir()
            subprocess.run(["cp", "--sparse=always", str(debian_guest), str(folder / "debian")], check=True)
        if lacking():
            (folder / PACKED).mkdir()
            for image in images:
                shutil.copy2(image, folder / PACKED)
        else:
            _unpack(images, folder)
        size = (sum(file.lstat().st_size for file in folder.rglob("*")) * 5 // 4) + SPARE
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        subprocess.run(
            ["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", str(folder), str(target), f"{size >> 10}k"],
            check=True, env=os.environ | {"PATH": needs.SYSTEM_PATH},
        )


def _unpack(images: Sequence[Path], folder: Path) -> None:
    """As containerd keeps them, into the folder that will be FOLDER."""
    with tempfile.TemporaryDirectory() as made:
        config, log = Path(made) / "containerd.toml", Path(made) / "log"
        config.write_text(nodeconfig.containerd(str(folder / "containerd"), CNI, systemd_cgroups=True))
        alone = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation=private")
        done = subprocess.run(
            [*alone, "sh", "-ec", SEED, "seed", str(config), str(log), *map(str, images)],
            env=os.environ | {"PATH": f"{folder / 'bin'}:{needs.SYSTEM_PATH}"}, capture_output=True, text=True,
        )
        if done.returncode != 0:
            raise RuntimeError(f"containerd did not take the images: {done.stderr.strip()}\n{log.read_text()[-2000:]}")


def install(host: XenHost, cluster: Cluster) -> None:
    """Make the host a node of the cluster. The Node is Ready a while after that."""
    units = sorted(UNITS.iterdir())
    host.write_all(_settings(host, cluster), mode=0o600)
    host.write_all({f"/etc/systemd/system/{unit.name}": unit.read_text() for unit in units})
    host.write(RUNTIME, CRUN.read_text(), mode=0o755)
    mount = f"mkdir -p {FOLDER} && echo /dev/vdc {FOLDER} ext4 noatime 0 0 >>/etc/fstab && mount {FOLDER}"
    started = " ".join(unit.name for unit in units if "[Install]" in unit.read_text())
    steps = (
        f"mountpoint -q {FOLDER} || {{ {mount}; }}",
        *(f"systemctl set-property {unit} CPUWeight={weight}" for unit, weight in WEIGHTS.items()),
        "systemctl daemon-reload",
        f"systemctl enable -q --now {started}",
        UNPACK,
    )
    host.ssh(" && ".join(steps), timeout=900)
    cluster.add_way(host.name, f"at 127.0.0.1:{host.port('kubelet')}")


def _settings(host: XenHost, cluster: Cluster) -> dict[str, str]:
    """The files that dom0 gets, by their paths."""
    files = {f"{SETTINGS}/{name}": text for name, text in cluster.kubelet_files(host.name, host.address).items()}
    port = cluster.server.rpartition(":")[2]
    return files | {
        f"{SETTINGS}/node.env": f"API_SERVER={MACHINE}:{port}\nNODE_IP={host.address}\n",
        f"{SETTINGS}/kubelet.yaml": nodeconfig.kubelet(
            SETTINGS, cgroup_root="/", systemd_cgroups=True, pod_logs="/var/log/pods", lease_seconds=LEASE_SECONDS
        ),
        "/etc/containerd/config.toml": nodeconfig.containerd(
            f"{FOLDER}/containerd", CNI, systemd_cgroups=True, runtime=RUNTIME
        ),
        f"{CNI}/10-pods.conflist": nodeconfig.cni(f"10.244.{host.number}.0/24", "/run/cni-addresses"),
    }
