#!/bin/sh
# The first process of a real node's namespaces; run by kubelet.py as `unshare ... sh namespaces.sh FOLDER ADDRESS SERVICE`.
# It makes the node's own mounts and network, and then stays: when it ends, all that is in them ends too.
set -eu
folder=$1 address=$2 service=$3

mount --make-rshared /   # what a kubelet mounts is to be seen in its containers; it is no mount of the machine
mount -t tmpfs tmpfs /run
# A kubelet's own folder is where it always is, since not all of its paths can be set, and its sockets want a short one.
mkdir -p /run/lib/upper /run/lib/work
mount -t overlay -o lowerdir=/var/lib,upperdir=/run/lib/upper,workdir=/run/lib/work overlay /var/lib
mkdir -p /var/lib/kubelet
mount --bind "$folder/kubelet" /var/lib/kubelet
mount --bind "$folder/log" /var/log

# A kubelet wants these settings of the kernel, or makes them so for the whole machine. Here it finds them made.
setting() {
    echo "$2" >"$folder/sysctl-${1##*/}"
    mount --bind "$folder/sysctl-${1##*/}" "/proc/sys/$1"
}
setting vm/overcommit_memory 1
setting vm/panic_on_oom 0
setting kernel/panic 10
setting kernel/panic_on_oops 1
setting kernel/keys/root_maxkeys 1000000
setting kernel/keys/root_maxbytes 25000000

ip link set lo up
ip address add "$service/32" dev lo
ip link add cni0 type bridge
ip address add "$address" dev cni0
ip link set cni0 up

: >"$folder/ready"
trap '' CHLD   # children that it inherits go without being waited for
exec sleep infinity
