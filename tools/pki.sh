# shellcheck shell=bash
# Keys and certificates of a throw-away control plane; sourced by controlplane.sh, which sets STATE.
PKI=$STATE/pki

# One CA for serving and client certificates, one key for the tokens of ServiceAccounts.
make_ca() {
  mkdir -p "$PKI"
  {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN=hookwright-test-ca \
      -keyout "$PKI/ca.key" -out "$PKI/ca.crt"
    openssl ecparam -name prime256v1 -genkey -noout -out "$PKI/sa.key"
    openssl ec -in "$PKI/sa.key" -pubout -out "$PKI/sa.pub"
  } 2>"$STATE/openssl.log"
}

# issue_certificate NAME SUBJECT [EXTENSION]
issue_certificate() {
  {
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "$2" -keyout "$PKI/$1.key" -out "$PKI/$1.csr"
    openssl x509 -req -in "$PKI/$1.csr" -CA "$PKI/ca.crt" -CAkey "$PKI/ca.key" -days 3650 -out "$PKI/$1.crt" \
      -extfile <(printf 'extendedKeyUsage=serverAuth,clientAuth\n%s\n' "${3:-}")
  } 2>>"$STATE/openssl.log"
  rm -f "$PKI/$1.csr"
}

# write_kubeconfig NAME SERVER FILE
write_kubeconfig() {
  cat >"$3" <<YAML
apiVersion: v1
kind: Config
current-context: hookwright
clusters: [{name: hookwright, cluster: {server: "$2", certificate-authority-data: $(base64 -w0 <"$PKI/ca.crt")}}]
users: [{name: hookwright, user: {client-certificate-data: $(base64 -w0 <"$PKI/$1.crt"), client-key-data: $(base64 -w0 <"$PKI/$1.key")}}]
contexts: [{name: hookwright, context: {cluster: hookwright, user: hookwright}}]
YAML
}
