//! The CRD's CEL rules, evaluated as the API server does: which policies pass, and which sentence refuses the others.

#![expect(clippy::unwrap_used, reason = "a test whose input cannot be read fails")]

use kube::core::cel::Validator;
use rstest::rstest;
use serde_json::Value;

const PLAIN: &str = "selector: {matchLabels: {app: shop}}";

#[test]
fn a_selector_is_enough() {
    assert_eq!(refusals(PLAIN), Vec::<String>::new());
}

#[test]
fn the_example_of_the_documentation_passes() {
    let spec = r#"
selector: {matchLabels: {app: shop}}
ports: [http, 8080]
interception: Redirect
mode: Enforce
rollout: Automatic
origins: ["https://shop.example.com"]
trustedProxies: [10.0.0.0/8]
token:
  sources: [{cookie: __Host-cloakroom}, {header: Authorization, scheme: Bearer}, {header: X-Api-Key}]
  issuers: [keycloak, entra-2]
tls: {secretName: shop-tls}
unauthenticated: Auto
session: {idle: 30m, absolute: 12h, writable: [cart, locale]}
jwt: {header: Authorization, audience: shop/shop, lifetime: 60s, claims: [email, groups], claimHeaders: {X-User-Email: email}}
outage: {mode: Lease, for: 30s}
rules:
- match: [{path: /healthz}]
  access: Anonymous
- match: [{path: "/admin/**", methods: [GET]}, {path: "/orders/{id}"}]
  require: {scopes: [orders], roles: [admin], acr: mfa, maxAge: 15m}
  unauthenticated: Deny
  outage: {mode: Deny}
limits: {requestHeaders: 32Ki, requestBody: 10Mi, idleTimeout: 60s}
"#;
    assert_eq!(refusals(spec), Vec::<String>::new());
}

#[rstest]
#[case("selector: {}", "an empty selector")]
#[case("selector: {matchLabels: {}, matchExpressions: []}", "an empty selector")]
#[case("ports: [15006]", "the sidecar's own")]
#[case("ports: [15020]", "the sidecar's own")]
#[case("unauthenticated: Redirect", "`origins` must say")]
#[case("rules: [{match: [{path: /a}], unauthenticated: Redirect}]", "`origins` must say")]
#[case("appEnvironment: {HOST: 127.0.0.1}", "needs `interception: Loopback`")]
#[case("{interception: Loopback, appEnvironment: {CLOAKROOM_ISSUER: x}}", "set by the injection")]
#[case("token: {sources: [{header: Authorization}]}", "needs a scheme")]
#[case("token: {sources: [{header: authorization}]}", "needs a scheme")]
#[case("token: {sources: [{}]}", "either a cookie or a header")]
#[case("token: {sources: [{cookie: a, header: X-Key}]}", "either a cookie or a header")]
#[case("token: {sources: [{cookie: a, scheme: Bearer}]}", "only a header has a scheme")]
#[case("token: {sources: [{header: HOST}]}", "meaning of its own")]
#[case("token: {sources: [{header: Cookie}]}", "meaning of its own")]
#[case("token: {sources: [{cookie: __Host-cloakroom-flow-x}]}", "belong to the sign-in flow")]
#[case("token: {sources: [{cookie: a}, {cookie: a}]}", "two sources are the same")]
#[case("token: {issuers: [keycloak], sources: [{cookie: a}]}", "from headers only")]
#[case("session: {idle: 13h}", "must not be longer than absolute")]
#[case("session: {idle: 10s}", "at least 1m")]
#[case("session: {absolute: 9000h}", "at most 8760h")]
#[case("jwt: {lifetime: 5s}", "between 10s and 15m")]
#[case("jwt: {lifetime: 16m}", "between 10s and 15m")]
#[case("jwt: {header: content-length}", "cannot carry the JWT")]
#[case("tls: {secretName: cloakroom.shop.proof}", "the operator's own")]
#[case("outage: {mode: Lease}", "`for` belongs to mode Lease")]
#[case("outage: {for: 30s}", "`for` belongs to mode Lease")]
#[case("outage: {mode: Lease, for: 36s}", "25s shorter than jwt.lifetime")]
#[case("jwt: {lifetime: 5m}\noutage: {mode: Lease, for: 276s}", "25s shorter than jwt.lifetime")]
#[case("rules: [{match: [{path: /a}], outage: {mode: Lease, for: 36s}}]", "25s shorter than jwt.lifetime")]
#[case("outage: {mode: Lease, for: 0s}", "at least 1s")]
#[case("rules: [{match: [{}]}]", "say which path or methods")]
#[case("rules: [{match: [{path: /a}], access: Anonymous, require: {acr: mfa}}]", "require needs access")]
#[case("rules: [{match: [{path: /a}], access: Deny, unauthenticated: Deny}]", "unauthenticated needs access")]
#[case("rules: [{match: [{path: /a}], access: Deny, outage: {mode: Deny}}]", "outage needs access")]
#[case("rules: [{match: [{path: /a}], require: {}}]", "requires nothing")]
#[case("rules: [{match: [{path: /a}], require: {maxAge: 10ms}}]", "at least 1s")]
#[case("limits: {idleTimeout: 25h}", "between 1s and 24h")]
fn a_contradiction_is_refused_with_a_sentence(#[case] fragment: &str, #[case] sentence: &str) {
    let spec = if fragment.starts_with("selector") {
        fragment.to_owned()
    } else if let Some(inner) = fragment.strip_prefix('{') {
        format!("{{{PLAIN}, {inner}")
    } else {
        format!("{PLAIN}\n{fragment}")
    };
    let refusals = refusals(&spec);
    assert!(refusals.iter().any(|refusal| refusal.contains(sentence)), "{spec}\n{refusals:?}");
}

#[test]
fn a_name_too_long_for_a_label_is_refused() {
    let object = object(PLAIN, &"n".repeat(64));
    let refused = Validator::new().validate_with_defaults(&schema(), &object, None).unwrap_err();
    assert!(refused[0].message.contains("at most 63 characters"), "{refused:?}");
}

fn refusals(spec: &str) -> Vec<String> {
    let object = object(spec, "shop");
    match Validator::new().validate_with_defaults(&schema(), &object, None) {
        Ok(()) => Vec::new(),
        Err(refused) => refused.iter().map(|e| format!("{}: {}", e.field_path, e.message)).collect(),
    }
}

fn object(spec: &str, name: &str) -> Value {
    let spec: Value = serde_norway::from_str(spec).unwrap();
    serde_json::json!({"apiVersion": "cloakroom.dev/v1alpha1", "kind": "AuthPolicy", "metadata": {"name": name}, "spec": spec})
}

fn schema() -> Value {
    cloakroom_crds::yaml::auth_policy()["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}
