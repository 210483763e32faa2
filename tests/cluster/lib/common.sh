# Sourced by the commands beside this folder: where things are, and what several of them do.

state=${CLOAKROOM_CLUSTER_STATE:-/tmp/cloakroom-cluster}
node=cloakroom
bridge=cloakroom0
gateway=10.244.0.1 # the node: the API server, the kubelet and the DNS listen here and nowhere else
pods=10.244.0.0/24
services=10.96.0.0/16
gateway6=fd00:c10a::1
pods6=fd00:c10a::/112
services6=fd00:c10a:0:1::/112
api=https://$gateway:26443
domain=cluster.local
components=(etcd containerd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy coredns)

# A proxy, where one is set, is for the world outside.
export NO_PROXY=${NO_PROXY:+$NO_PROXY,}127.0.0.1,$gateway,$pods,$services,$pods6,$services6,.$domain
export no_proxy=$NO_PROXY

say() { echo "cluster: $*" >&2; }
die() { say "$*"; exit 1; }
cannot() { say "$*"; exit 77; } # not here: callers skip, loudly

# Programs are run from the state folder as root, and its default place is one where anybody may make it first.
need_root() {
  [ "$(id -u)" = 0 ] || cannot "needs root (pods, bridges and nftables are made on this machine)"
  [ ! -e "$state" ] || { [ -O "$state" ] && [ ! -L "$state" ]; } || die "$state belongs to somebody else"
}

# One change of state at a time. The lock is on the folder above, so that no lock file is left behind;
# daemons must not inherit it (see start).
lock() {
  mkdir -p "$(dirname "$state")"
  exec 9<"$(dirname "$state")"
  flock -n 9 || { say "waiting for another up or down"; flock -w 600 9 || die "another up or down has held the lock for ten minutes"; }
}

kubectl() { "$state/bin/kubectl" --kubeconfig "$state/admin.kubeconfig" "$@"; }
ctr() { CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS=1 "$state/bin/ctr" --address "$state/containerd/containerd.sock" --namespace k8s.io "$@"; }

# start NAME COMMAND...: in the background, its output in its log, its pid and the pid's time of birth in a file.
start() {
  local name=$1 pid
  shift
  setsid "$@" >"$state/logs/$name.log" 2>&1 </dev/null 9>&- &
  pid=$!
  echo "$pid $(born "$pid")" >"$state/pids/$name"
}

# When the process started (clock ticks since boot): a pid alone may by now be somebody else's.
born() {
  local stat
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
  # shellcheck disable=SC2086 # split on purpose; the name before ")" may hold spaces
  set -- ${stat##*) }
  [ "$1" = Z ] || echo "${20}"
}

# pid_of NAME: the component's pid, when it is alive.
pid_of() {
  local pid birth
  [ -f "$state/pids/$1" ] && read -r pid birth <"$state/pids/$1" || return 1
  [ -n "$birth" ] && [ "$(born "$pid")" = "$birth" ] && echo "$pid"
}

# stop NAME SECONDS: asks the component to end, insists when it does not, and forgets it.
stop() {
  local name=$1 deadline=$((SECONDS + $2)) pid
  while pid=$(pid_of "$name"); do
    if ((SECONDS < deadline)); then kill -TERM "$pid" 2>/dev/null || true; else kill -KILL "$pid" 2>/dev/null || true; fi
    sleep 0.1
  done
  rm -f "$state/pids/$name"
}

# await COMPONENT SECONDS WHAT COMMAND...: until the command succeeds. When it does not in time, or the component
# ends, says which and shows the end of its log.
await() {
  local name=$1 deadline=$((SECONDS + $2)) what=$3
  shift 3
  while pid_of "$name" >/dev/null; do
    if "$@" >/dev/null 2>&1; then return; fi
    if ((SECONDS > deadline)); then failed "$name" "is not $what, in time"; fi
    sleep 0.1
  done
  failed "$name" "ended"
}

failed() {
  say "$1 $2. The end of $state/logs/$1.log:"
  tail -n 25 "$state/logs/$1.log" >&2
  exit 1
}

healthy() {
  local name
  [ -f "$state/ready" ] || return 1
  for name in "${components[@]}"; do pid_of "$name" >/dev/null || return 1; done
  kubectl get --raw /readyz --request-timeout=5s >/dev/null 2>&1
}

# Whether this machine has IPv6 at all; without it the cluster is IPv4 only.
dual_stack() { [ "$(cat /proc/sys/net/ipv6/conf/all/disable_ipv6 2>/dev/null)" = 0 ]; }
