use cloakroom_protocol::sidecar_config::Outage;
use rstest::rstest;

use super::*;

/// Parses what an API server with an older definition might have let in: no CEL rules, no patterns.
fn parse_spec(fragment: &str) -> Result<Policy, Rejected> {
    let spec = format!("{{selector: {{matchLabels: {{app: shop}}}}, {fragment}}}");
    let mut policy = crd::AuthPolicy::new("shop", serde_norway::from_str(&spec).unwrap());
    policy.metadata.namespace = Some("web".into());
    parse(&policy)
}

#[test]
fn defaults_are_the_documented_ones() {
    let policy = parse_spec("").unwrap();
    assert_eq!(policy.audience, "web/shop");
    assert_eq!(policy.session, SessionTerms { idle_seconds: 1800, absolute_seconds: 43200 });
    assert_eq!(
        policy.limits,
        Limits { request_headers: 32 << 10, request_body: 10 << 20, idle_timeout: 60, stream_idle_timeout: 3600 }
    );
    assert_eq!(policy.outage, Outage::Deny);
    assert_eq!(policy.token_sources[0], TokenSource::Cookie { name: "__Host-cloakroom".into() });
}

#[test]
fn durations_and_sizes_are_read() {
    let policy =
        parse_spec("session: {idle: 1h30m, absolute: 2h}, limits: {requestHeaders: 4096, requestBody: 1Gi}").unwrap();
    assert_eq!(policy.session.idle_seconds, 5400);
    assert_eq!((policy.limits.request_headers, policy.limits.request_body), (4096, 1 << 30));
}

#[rstest]
#[case("ports: [0]", "spec.ports[0]: a port number is between")]
#[case("ports: [65536]", "spec.ports[0]: a port number is between")]
#[case("ports: [-1]", "spec.ports[0]: a port number is between")]
#[case("ports: [8080, 15020]", "spec.ports[1]: ports 15006 to 15020")]
#[case("ports: [http, http]", "spec.ports[1]: this port is there twice")]
#[case("ports: ['8080']", "a port name has")]
#[case("ports: [\"a' + 'b\"]", "a port name has")]
#[case("ports: [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15]", "at most 14 ports")]
#[case("appEnvironment: {HOST: a}", "needs `interception: Loopback`")]
#[case("interception: Loopback, appEnvironment: {CLOAKROOM_ISSUER: a}", "set by the injection")]
#[case("interception: Loopback, appEnvironment: {'A=B': a}", "cannot be the name of a variable")]
#[case("interception: Loopback, appEnvironment: {\"A\\n\": a}", "cannot be the name of a variable")]
#[case("origins: ['https://shop.example.com/']", "did you mean https://shop.example.com?")]
#[case("origins: ['https://Shop.example.com']", "did you mean https://shop.example.com?")]
#[case("origins: ['https://shop.example.com:443']", "did you mean https://shop.example.com?")]
#[case("origins: ['https://user@shop.example.com']", "did you mean https://shop.example.com?")]
#[case("origins: ['https://shop.example.com#']", "without a path")]
#[case("origins: ['http://shop.example.com']", "http is for localhost only")]
#[case("origins: ['http://localhost.example.com']", "http is for localhost only")]
#[case("origins: ['ftp://shop.example.com']", "an origin is https://")]
#[case("origins: ['javascript:alert(1)']", "an origin is https://")]
#[case("origins: ['null']", "an origin is https://")]
#[case("trustedProxies: [10.0.0.1]", "not a network")]
#[case("trustedProxies: [10.0.0.1/8]", "did you mean 10.0.0.0/8?")]
#[case("trustedProxies: [10.0.0.0/33]", "not a network")]
#[case("tls: {secretName: Shop_TLS}", "cannot be the name of a Secret")]
#[case("tls: {secretName: 'a..b'}", "cannot be the name of a Secret")]
#[case("tls: {secretName: ''}", "cannot be the name of a Secret")]
#[case("tls: {secretName: cloakroom.shop}", "the operator's own")]
#[case("token: {sources: []}", "without a source")]
#[case("token: {sources: [{cookie: a, header: b}]}", "either a cookie or a header")]
#[case("token: {sources: [{}]}", "either a cookie or a header")]
#[case("token: {sources: [{cookie: a, scheme: b}]}", "only a header has a scheme")]
#[case("token: {sources: [{cookie: 'a=b'}]}", "cannot be the name of a cookie")]
#[case("token: {sources: [{cookie: 'a;b'}]}", "cannot be the name of a cookie")]
#[case("token: {sources: [{cookie: __Host-cloakroom-flow-1}]}", "belong to the sign-in flow")]
#[case("token: {sources: [{header: Authorization}]}", "needs a scheme")]
#[case("token: {sources: [{header: AUTHORIZATION}]}", "needs a scheme")]
#[case("token: {sources: [{header: Transfer-Encoding}]}", "meaning of its own")]
#[case("token: {sources: [{header: X_Key}]}", "letters, digits and dashes")]
#[case("token: {sources: [{header: X-Key}, {header: x-key}]}", "there twice")]
#[case("token: {issuers: [Key_Cloak]}", "lower-case letters")]
#[case("token: {issuers: ['']}", "lower-case letters")]
#[case("token: {issuers: [-a]}", "lower-case letters")]
#[case("token: {issuers: [keycloak], sources: [{cookie: a}]}", "from headers only")]
#[case("session: {idle: 3h, absolute: 2h}", "must not be longer")]
#[case("session: {idle: 59s}", "too short")]
#[case("session: {idle: 5d}", "not a duration")]
#[case("session: {idle: ''}", "not a duration")]
#[case("session: {idle: 90}", "not a duration")]
#[case("session: {absolute: 99999h}", "too long")]
#[case("session: {writable: ['a b']}", "visible ASCII")]
#[case("jwt: {lifetime: 9s}", "too short")]
#[case("jwt: {lifetime: 16m}", "too long")]
#[case("jwt: {lifetime: 30500ms}", "whole number of seconds")]
#[case("jwt: {header: Host}", "meaning of its own")]
#[case("jwt: {header: Cloakroom-Session}", "meaning of its own")]
#[case("jwt: {audience: 'a b'}", "visible ASCII")]
#[case("jwt: {claimHeaders: {Authorization: email}}", "already carries")]
#[case("jwt: {claimHeaders: {X-A: email, x-a: name}}", "already carries")]
#[case("jwt: {claimHeaders: {X-Forwarded-For: email}}", "meaning of its own")]
#[case("jwt: {claimHeaders: {\"X-A\\r\\nX-B\": email}}", "letters, digits and dashes")]
#[case("outage: {mode: Lease}", "`for` belongs to mode Lease")]
#[case("outage: {for: 30s}", "`for` belongs to mode Lease")]
#[case("outage: {mode: Lease, for: 2h}", "spec.outage.for: 2h is too long")]
#[case("outage: {mode: Lease, for: 36s}", "spec.outage.for: an outage is bridged with the JWTs")]
#[case(
    "rules: [{match: [{path: /a}], outage: {mode: Lease, for: 36s}}]",
    "spec.rules[0].outage.for: an outage is bridged"
)]
#[case("rules: [{match: []}]", "never used")]
#[case("rules: [{match: [{}]}]", "spec.rules[0].match[0]: say which path")]
#[case("rules: [{match: [{path: /a}, {path: /a/**/b}]}]", "spec.rules[0].match[1].path: ** stands for")]
#[case("rules: [{match: [{path: '/a?b'}]}]", "path pattern")]
#[case("rules: [{match: [{path: /a, methods: [get]}]}]", "not a method")]
#[case("rules: [{match: [{path: /a}], access: Deny, require: {acr: a}}]", "require needs access")]
#[case("rules: [{match: [{path: /a}], require: {}}]", "requires nothing")]
#[case("rules: [{match: [{path: /a}], require: {scopes: ['a b']}}]", "RFC 6749")]
#[case("rules: [{match: [{path: /a}], unauthenticated: Redirect}]", "must say where they come back")]
#[case("unauthenticated: Redirect", "must say where they come back")]
#[case("limits: {requestHeaders: 512}", "not between")]
#[case("limits: {requestHeaders: 2Mi}", "not between")]
#[case("limits: {requestBody: 10MB}", "not a size")]
#[case("limits: {requestBody: 99999999999999999999}", "not a size")]
#[case("limits: {idleTimeout: 25h}", "too long")]
#[case("limits: {streamIdleTimeout: 25h}", "spec.limits.streamIdleTimeout: 25h is too long")]
fn what_means_nothing_is_rejected_with_field_and_sentence(#[case] fragment: &str, #[case] sentence: &str) {
    let spec = format!("{{selector: {{matchLabels: {{app: shop}}}}, {fragment}}}");
    let refusal = match serde_norway::from_str::<AuthPolicySpec>(&spec) {
        Err(shape) => shape.to_string(),
        Ok(_) => parse_spec(fragment).unwrap_err().to_string(),
    };
    assert!(refusal.contains(sentence), "{fragment}: {refusal}");
}

#[rstest]
#[case("{}", "an empty selector")]
#[case("{matchLabels: {}}", "an empty selector")]
#[case("{matchLabels: {app: \"a'b\"}}", "not a label value")]
#[case("{matchLabels: {'a b': c}}", "not a label key")]
#[case("{matchLabels: {'Exa/mple/a': c}}", "not a label key")]
#[case("{matchExpressions: [{key: app, operator: In}]}", "In and NotIn need values")]
#[case("{matchExpressions: [{key: app, operator: Exists, values: [a]}]}", "take no values")]
#[case("{matchExpressions: [{key: app, operator: Near, values: [a]}]}", "the operators are")]
#[case("{matchExpressions: [{key: app, operator: In, values: [\"${x}\"]}]}", "not a label value")]
fn a_selector_that_the_api_server_would_refuse_is_rejected(#[case] selector: &str, #[case] sentence: &str) {
    let spec = serde_norway::from_str(&format!("selector: {selector}")).unwrap();
    let mut policy = crd::AuthPolicy::new("shop", spec);
    policy.metadata.namespace = Some("web".into());
    let refusal = parse(&policy).unwrap_err().to_string();
    assert!(refusal.starts_with("spec.selector") && refusal.contains(sentence), "{refusal}");
}

#[test]
fn a_name_that_is_no_label_is_rejected() {
    let spec: AuthPolicySpec = serde_norway::from_str("selector: {matchLabels: {app: a}}").unwrap();
    for (namespace, name) in
        [("web", "n".repeat(64)), ("web", "Shop".into()), ("", "shop".into()), ("we/b", "shop".into())]
    {
        let mut policy = crd::AuthPolicy::new(&name, spec.clone());
        policy.metadata.namespace = Some(namespace.into());
        assert!(parse(&policy).unwrap_err().field.starts_with("metadata"), "{namespace}/{name}");
    }
}
