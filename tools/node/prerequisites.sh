#!/usr/bin/env bash
# Says all that keeps a node (node.sh) from being built and run here, and fails then. Installs nothing.
set -euo pipefail
# shellcheck source=tools/lib.sh
. "$(dirname "$0")/../lib.sh"

lacks() {
  say "$1"
  MISSING=1
}

need nft "kube-proxy calls it. Install nftables (Debian: apt-get install nftables)."
for program in ipset iptables; do need "$program" "kube-router calls it. Install it (Debian: apt-get install $program)."; done
need ip "Install iproute2 (Debian: apt-get install iproute2)."
for program in nsenter unshare setpriv; do need "$program" "Install util-linux (Debian: apt-get install util-linux)."; done
need openssl "Install OpenSSL's command line (Debian: apt-get install openssl)."
need curl "Install curl (Debian: apt-get install curl)."
need pkg-config "runc's build calls it. Install it (Debian: apt-get install pkg-config)."
! command -v pkg-config >/dev/null || pkg-config --exists libseccomp ||
  lacks "missing: libseccomp's headers, with which runc is built. Install them (Debian: apt-get install libseccomp-dev)."

grep -qw overlay /proc/filesystems || lacks "The kernel has no overlayfs, on which containers' file systems are (modprobe overlay)."
grep -q '^[0-9]*:\([^:]*,\)\?memory[,:]' /proc/self/cgroup ||
  lacks "The node needs control groups in the layout of version 1 (or hybrid), with the memory controller; here it is another."
if [ "$(id -u)" != 0 ]; then
  lacks "A node needs root: it mounts file systems and makes network interfaces, all in namespaces of its own."
elif [ "$MISSING" = 0 ]; then
  # Tried, in a network namespace that goes with the command.
  tried=$(unshare --net sh -ec '
    ip link add one type veth peer name two
    ip link add three type bridge
    nft add table ip try
    nft add chain ip try nat "{ type nat hook postrouting priority srcnat; }"' 2>&1) ||
    lacks "The kernel lacks what a node's network is made of (veth, bridge, nf_tables with NAT), or doesn't allow it here: $tried"
fi
settle_needs
