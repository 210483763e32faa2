# Sourced by up: the cluster's certificates and the kubeconfigs made of them.

make_certificates() {
  local pki=$state/pki
  mkdir -p "$pki"
  # Nothing from the system's openssl.cnf: its defaults would make every certificate an authority.
  printf '[req]\ndistinguished_name = dn\n[dn]\n' >"$pki/openssl.cnf"

  authority ca cloakroom-test-cluster
  authority etcd-ca cloakroom-test-etcd
  openssl genrsa -out "$pki/service-accounts.key" 2048 2>/dev/null # RS256, as nearly every real cluster has it
  openssl rsa -in "$pki/service-accounts.key" -pubout -out "$pki/service-accounts.pub" 2>/dev/null

  local api_names="IP:$gateway,IP:127.0.0.1,IP:${services%.*}.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default"
  api_names+=",DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.$domain"
  certificate etcd-ca etcd /CN=etcd serverAuth IP:127.0.0.1
  certificate etcd-ca etcd-client /CN=kube-apiserver clientAuth
  certificate ca apiserver /CN=kube-apiserver serverAuth "$api_names"
  certificate ca apiserver-kubelet /O=system:masters/CN=kube-apiserver-kubelet-client clientAuth
  certificate ca kubelet-server "/CN=$node" serverAuth "IP:$gateway,DNS:$node"

  client admin /O=system:masters/CN=admin
  client kube-controller-manager /CN=system:kube-controller-manager
  client kube-scheduler /CN=system:kube-scheduler
  client kubelet "/O=system:nodes/CN=system:node:$node"
  client kube-proxy /CN=system:kube-proxy
  client coredns /CN=coredns
}

# authority NAME CN
authority() {
  openssl req -x509 -config "$pki/openssl.cnf" -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj "/CN=$2" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign -addext subjectKeyIdentifier=hash \
    -keyout "$pki/$1.key" -out "$pki/$1.crt" 2>/dev/null
}

# certificate AUTHORITY NAME SUBJECT USAGE [NAMES]
certificate() {
  local names=()
  [ -z "${5:-}" ] || names=(-addext "subjectAltName=$5")
  openssl req -x509 -config "$pki/openssl.cnf" -CA "$pki/$1.crt" -CAkey "$pki/$1.key" \
    -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj "$3" \
    -addext basicConstraints=critical,CA:FALSE -addext keyUsage=critical,digitalSignature -addext "extendedKeyUsage=$4" \
    -addext authorityKeyIdentifier=keyid "${names[@]}" -keyout "$pki/$2.key" -out "$pki/$2.crt" 2>/dev/null
}

# client NAME SUBJECT: a certificate and $state/NAME.kubeconfig, which needs no other file.
client() {
  certificate ca "$1" "$2" clientAuth
  cat >"$state/$1.kubeconfig" <<YAML
apiVersion: v1
kind: Config
clusters:
- name: cloakroom
  cluster: {server: "$api", certificate-authority-data: $(base64 -w0 "$pki/ca.crt")}
users:
- name: $1
  user: {client-certificate-data: $(base64 -w0 "$pki/$1.crt"), client-key-data: $(base64 -w0 "$pki/$1.key")}
contexts:
- name: cloakroom
  context: {cluster: cloakroom, user: $1}
current-context: cloakroom
YAML
}
