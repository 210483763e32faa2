//! Who the auth service is.

use super::*;

/// Whether a client that trusts `trusted`, and asks for `name`, gets an answer over TLS.
async fn is_answered_over_tls(fake: &FakeAuth, trusted: &Pki, name: &str) -> bool {
    let mut config = config::tests::config(&format!("https://{name}:9443"));
    config["auth_service"]["addresses"] = json!([fake.address]);
    config["auth_service"]["ca"] = json!(trusted.ca_pem);
    let policy = Arc::new(Policy::parse(config.to_string().as_bytes()).unwrap());
    let client = AuthClient::start(Setup {
        policy: Arc::new(CurrentPolicy::from(Some(policy.clone()))),
        metrics: Arc::default(),
        workload: TokenSource::Fixed("workload".into()),
        sidecar: "pod-1".into(),
        runtime: Handle::current(),
        bounds: Bounds::default(),
    });
    client.policy_changed(None, &policy);
    client.exchange(&token(1), Outage::Deny).await.is_ok()
}

#[tokio::test]
async fn the_auth_service_has_to_prove_its_name_under_the_configs_own_ca() {
    let name = "auth.cloakroom-system.svc";
    let (pki, other) = (Pki::new(name), Pki::new(name));
    let fake = FakeAuth::start_tls(&pki, b"h2").await;
    assert!(is_answered_over_tls(&fake, &pki, name).await);
    assert!(!is_answered_over_tls(&fake, &other, name).await, "signed by somebody else");
    assert!(!is_answered_over_tls(&fake, &pki, "auth.elsewhere.svc").await, "for another name");
    assert_eq!(fake.introspections(), 1, "no token went to whom nobody trusts");
    let http1 = FakeAuth::start_tls(&pki, b"http/1.1").await;
    assert!(!is_answered_over_tls(&http1, &pki, name).await, "does not speak HTTP/2");
}
