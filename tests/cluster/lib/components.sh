# Sourced by up: how each component is configured and started, in the order of their start.

start_etcd() {
  start etcd "$state/bin/etcd" --name "$node" --data-dir "$state/etcd" --unsafe-no-fsync --log-level error \
    --listen-client-urls https://127.0.0.1:22379 --advertise-client-urls https://127.0.0.1:22379 \
    --listen-peer-urls http://127.0.0.1:22380 \
    --client-cert-auth --trusted-ca-file "$state/pki/etcd-ca.crt" --cert-file "$state/pki/etcd.crt" --key-file "$state/pki/etcd.key"
}

start_containerd() {
  local ranges="[{\"subnet\": \"$pods\", \"gateway\": \"$gateway\"}]"
  ! dual_stack || ranges+=", [{\"subnet\": \"$pods6\", \"gateway\": \"$gateway6\"}]"
  local routes='{"dst": "0.0.0.0/0"}'
  ! dual_stack || routes+=', {"dst": "::/0"}'
  mkdir -p "$state/cni" "$state/containerd"
  cat >"$state/cni/cloakroom.conflist" <<JSON
{"cniVersion": "0.4.0", "name": "cloakroom", "plugins": [
  {"type": "bridge", "bridge": "$bridge", "isGateway": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "$state/cni/addresses", "ranges": [$ranges], "routes": [$routes]}}]}
JSON
  # restrict_oom_score_adj: without CAP_SYS_RESOURCE (containers, small VMs) runc dies of lowering it.
  cat >"$state/containerd/config.toml" <<TOML
version = 3
root = "$state/containerd/root"
state = "$state/containerd/state"
[grpc]
  address = "$state/containerd/containerd.sock"
[plugins.'io.containerd.internal.v1.opt']
  path = "$state/containerd/opt"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "localhost/pause:1"
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  Root = "$state/containerd/runc"
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ["/usr/lib/cni"]
  conf_dir = "$state/cni"
TOML
  run_containerd
}

# By itself, because down needs it for a cluster whose containerd died.
run_containerd() {
  start containerd env PATH="$state/bin:$PATH" "$state/bin/containerd" --config "$state/containerd/config.toml" --log-level warn
}

start_apiserver() {
  local ranges=$services issuer=https://kubernetes.default.svc.$domain
  ! dual_stack || ranges+=,$services6
  start kube-apiserver "$state/bin/kube-apiserver" \
    --bind-address "$gateway" --secure-port 26443 --advertise-address "$gateway" --allow-privileged \
    --tls-cert-file "$state/pki/apiserver.crt" --tls-private-key-file "$state/pki/apiserver.key" --client-ca-file "$state/pki/ca.crt" \
    --etcd-servers https://127.0.0.1:22379 --etcd-cafile "$state/pki/etcd-ca.crt" \
    --etcd-certfile "$state/pki/etcd-client.crt" --etcd-keyfile "$state/pki/etcd-client.key" \
    --service-cluster-ip-range "$ranges" --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction \
    --service-account-issuer "$issuer" --service-account-jwks-uri "$issuer/openid/v1/jwks" \
    --service-account-key-file "$state/pki/service-accounts.pub" --service-account-signing-key-file "$state/pki/service-accounts.key" \
    --kubelet-preferred-address-types InternalIP --kubelet-certificate-authority "$state/pki/ca.crt" \
    --kubelet-client-certificate "$state/pki/apiserver-kubelet.crt" --kubelet-client-key "$state/pki/apiserver-kubelet.key"
}

start_controller_manager() {
  start kube-controller-manager "$state/bin/kube-controller-manager" --kubeconfig "$state/kube-controller-manager.kubeconfig" \
    --bind-address 127.0.0.1 --secure-port 20257 --leader-elect=false --use-service-account-credentials \
    --flex-volume-plugin-dir "$state/kubelet/volume-plugins" --kube-api-qps 200 --kube-api-burst 400 --root-ca-file "$state/pki/ca.crt" \
    --service-account-private-key-file "$state/pki/service-accounts.key" \
    --cluster-signing-cert-file "$state/pki/ca.crt" --cluster-signing-key-file "$state/pki/ca.key"
}

start_scheduler() {
  start kube-scheduler "$state/bin/kube-scheduler" --kubeconfig "$state/kube-scheduler.kubeconfig" \
    --bind-address 127.0.0.1 --secure-port 20259 --leader-elect=false
}

start_kubelet() {
  local addresses=$gateway
  ! dual_stack || addresses+=,$gateway6
  mkdir -p "$state/kubelet"
  # Images come from load-image alone, so nothing may be collected or evicted for want of space.
  cat >"$state/kubelet/config.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $gateway
port: 20250
healthzBindAddress: 127.0.0.1
healthzPort: 20248
tlsCertFile: $state/pki/kubelet-server.crt
tlsPrivateKeyFile: $state/pki/kubelet-server.key
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $state/pki/ca.crt}}
authorization: {mode: Webhook}
containerRuntimeEndpoint: unix://$state/containerd/containerd.sock
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
enforceNodeAllocatable: []
makeIPTablesUtilChains: false
oomScoreAdj: 0
clusterDomain: $domain
clusterDNS: [$gateway]
resolvConf: ""
podLogsDir: $state/pod-logs
volumePluginDir: $state/kubelet/volume-plugins
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: "0%", nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%", imagefs.inodesFree: "0%"}
kubeAPIQPS: 200
kubeAPIBurst: 400
YAML
  start kubelet "$state/bin/kubelet" --config "$state/kubelet/config.yaml" --kubeconfig "$state/kubelet.kubeconfig" \
    --hostname-override "$node" --node-ip "$addresses" --root-dir "$state/kubelet" --cert-dir "$state/kubelet/pki"
}

start_proxy() {
  local cidrs=$pods
  ! dual_stack || cidrs+=,$pods6
  start kube-proxy "$state/bin/kube-proxy" --kubeconfig "$state/kube-proxy.kubeconfig" --hostname-override "$node" \
    --proxy-mode nftables --cluster-cidr "$cidrs" --nodeport-addresses primary --oom-score-adj 0 \
    --healthz-bind-address 127.0.0.1:20256 --metrics-bind-address 127.0.0.1:20249 \
    --conntrack-max-per-core 0 --conntrack-tcp-timeout-established 0 --conntrack-tcp-timeout-close-wait 0
}

start_coredns() {
  mkdir -p "$state/coredns"
  cat >"$state/coredns/Corefile" <<COREFILE
$domain:53 in-addr.arpa:53 ip6.arpa:53 {
  bind $gateway
  ready 127.0.0.1:20181
  errors
  kubernetes $domain in-addr.arpa ip6.arpa {
    kubeconfig $state/coredns.kubeconfig
    pods insecure
  }
}
COREFILE
  # Other names go where this machine asks, if it asks anywhere.
  ! grep -q '^nameserver' /etc/resolv.conf || cat >>"$state/coredns/Corefile" <<COREFILE
.:53 {
  bind $gateway
  errors
  forward . /etc/resolv.conf
}
COREFILE
  start coredns "$state/bin/coredns" -conf "$state/coredns/Corefile"
}
