# Sourced by up and down: what they take from the machine and give back. Everything changed outside the
# state folder is written down first ($state/machine), so that down restores what was there.

# Settings that the kubelet and the CNI plugins change.
settings=(net/ipv4/ip_forward net/ipv6/conf/all/forwarding vm/overcommit_memory vm/panic_on_oom
  kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes)
# Folders that programs make at places of their own, whatever we tell them.
habits=(/run/containerd /var/lib/cni /var/lib/kubelet /var/log/containers)

install_packages() {
  local missing=() package command
  while read -r package command; do
    [ -x "$command" ] || command -v "$command" >/dev/null || missing+=("$package")
  done <<'PACKAGES'
runc runc
containernetworking-plugins /usr/lib/cni/bridge
nftables nft
conntrack conntrack
iproute2 ip
busybox-static busybox
jq jq
curl curl
openssl openssl
PACKAGES
  ((${#missing[@]})) || return 0
  command -v apt-get >/dev/null || cannot "needs ${missing[*]} (Debian's names), and there is no apt-get to install them"
  say "installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get install -y --no-install-recommends "${missing[@]}" >/dev/null 2>&1 ||
    { apt-get update >/dev/null && apt-get install -y --no-install-recommends "${missing[@]}" >/dev/null; } ||
    cannot "could not install ${missing[*]}"
}

remember_machine() {
  local setting path
  mkdir -p "$state/machine"
  for setting in "${settings[@]}"; do
    [ ! -f "/proc/sys/$setting" ] || echo "$setting $(cat "/proc/sys/$setting")"
  done >"$state/machine/settings"
  for path in "${habits[@]}"; do [ -e "$path" ] || echo "$path"; done >"$state/machine/absent"
}

restore_machine() {
  local setting value path
  if [ -f "$state/machine/settings" ]; then
    while read -r setting value; do
      [ "$(cat "/proc/sys/$setting")" = "$value" ] || echo "$value" >"/proc/sys/$setting"
    done <"$state/machine/settings"
  fi
  remove_traces
  if [ -f "$state/machine/absent" ]; then
    while read -r path; do [ ! -d "$path" ] || find "$path" -type d -empty -delete; done <"$state/machine/absent"
  fi
}

# Just what is ours: another containerd or CNI may have come to this machine since.
remove_traces() {
  local socket result container
  [ ! -d /var/log/containers ] || find /var/log/containers -lname "$state/*" -delete
  for result in /var/lib/cni/results/cloakroom-*-eth0; do
    container=${result#/var/lib/cni/results/cloakroom-}
    rm -f "$result" "/var/lib/cni/results/cni-loopback-${container%-eth0}-lo"
  done
  for socket in /run/containerd/s/* /var/lib/kubelet/device-plugins/kubelet.sock; do
    if [ -S "$socket" ] && ! grep -qF "$socket" /proc/net/unix; then rm -f "$socket"; fi
  done
}

make_network() {
  ip link add "$bridge" type bridge
  # Pods share the bridge, so a Service's answer would go straight back to the pod that asked, past the address
  # translation, and be thrown away there: this bridge's frames (no other's) go through netfilter.
  [ -d /proc/sys/net/bridge ] || modprobe br_netfilter
  echo 1 >"/sys/class/net/$bridge/bridge/nf_call_iptables"
  echo 1 >"/sys/class/net/$bridge/bridge/nf_call_ip6tables"
  ip address add "$gateway/24" dev "$bridge"
  ! dual_stack || ip address add "$gateway6/112" dev "$bridge" nodad
  ip link set "$bridge" up
  # So that this machine reaches Services even where it has no default route, and as the node.
  ip route add "$services" dev "$bridge" src "$gateway"
  ! dual_stack || ip route add "$services6" dev "$bridge" src "$gateway6"
}

remove_network() {
  local family
  for family in ip ip6; do nft delete table "$family" kube-proxy 2>/dev/null || true; done
  ip link delete "$bridge" 2>/dev/null || true
}

# Innermost first. Names in mountinfo are escaped (\040 for a space), which ours never need.
unmount_all() {
  local point
  awk -v root="$state/" 'index($5, root) == 1 {print $5}' /proc/self/mountinfo | sort -r |
    while read -r point; do umount "$point" 2>/dev/null || umount --lazy "$point"; done
}

remove_cgroups() {
  local mount
  awk '$3 ~ /^cgroup2?$/ {print $2}' /proc/mounts | while read -r mount; do
    [ ! -d "$mount/kubepods" ] || find "$mount/kubepods" -depth -type d -exec rmdir {} + 2>/dev/null || true
  done
}
