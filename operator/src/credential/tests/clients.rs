//! What is a client's own; what credentials have in common is tried with keys.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::super::OAuthClient;

type Bench = super::bench::Bench<OAuthClient>;

fn hash(secret: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(secret))
}

fn spec(changes: &Value) -> Value {
    let mut spec = json!({
        "displayName": "Reports", "redirectURIs": ["https://reports.example.com/cb"], "scopes": ["openid"],
        "grantTypes": ["authorization_code", "refresh_token"], "audiences": ["shop/web"],
    });
    spec.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    spec
}

#[tokio::test]
async fn a_confidential_client_s_secret_holds_all_that_it_needs_and_its_hash_is_registered() {
    let bench = Bench::start(spec(&json!({"requireMfa": true}))).await;
    bench.round().await.unwrap();
    let secret = bench.entry("client_secret").unwrap();
    assert_eq!(bench.entry("client_id").as_deref(), Some("reports@shop"));
    assert_eq!(bench.entry("issuer").as_deref(), Some("https://auth.example.com"));
    let (method, path, told) = bench.told().remove(0);
    assert_eq!((method.as_str(), path.as_str()), ("PUT", "/internal/v1/clients/shop/reports"));
    let wanted = json!({
        "of": "shop/reports", "uid": "1", "secret": hash(&secret), "name": "Reports", "scopes": ["openid"],
        "grant_types": ["authorization_code", "refresh_token"], "redirect_uris": ["https://reports.example.com/cb"],
        "post_logout_redirect_uris": [], "audiences": ["shop/web"], "dpop_bound_access_tokens": false, "require_mfa": true,
    });
    assert_eq!(told, wanted);
    let status = &bench.resource()["status"];
    assert_eq!(
        (&status["id"], &status["secretName"]),
        (&json!("reports@shop"), &json!("cloakroom.reports.oauth-client"))
    );
    assert_eq!((bench.says("Accepted").0, bench.says("Ready").0), ("True".to_owned(), "True".to_owned()));
    assert!(!format!("{} {:?}", bench.resource(), bench.events()).contains(&secret), "it is in its Secret only");
}

#[tokio::test]
async fn rolling_pods_lose_nothing_by_a_rotation() {
    let bench = Bench::start(spec(&json!({}))).await;
    bench.round().await.unwrap();
    let old = bench.entry("client_secret").unwrap();
    bench.edit(json!({"spec": {"rotation": {"trigger": "now", "overlap": "1h"}}}));
    bench.round().await.unwrap();
    let new = bench.entry("client_secret").unwrap();
    assert_ne!(old, new);
    let told = &bench.told()[1].2;
    assert_eq!((&told["secret"], &told["before"]["secret"]), (&json!(hash(&new)), &json!(hash(&old))));
    // Whoever deletes the Secret, or spoils it, wants the old one refused at once.
    bench.delete_secret();
    bench.round().await.unwrap();
    assert_eq!(bench.told()[2].2.get("before"), None);
    let mut spoilt = bench.secret().unwrap();
    spoilt["data"]["client_secret"] = json!("c2hvcnQ=");
    bench.put_secret(spoilt);
    bench.round().await.unwrap();
    let newest = bench.entry("client_secret").unwrap();
    assert_eq!((newest.len(), &bench.told()[3].2["secret"]), (43, &json!(hash(&newest))));
}

#[tokio::test]
async fn a_public_client_has_no_secret_anywhere() {
    let bench = Bench::start(spec(&json!({"type": "Public"}))).await;
    for _ in 0..2 {
        bench.round().await.unwrap();
    }
    assert_eq!((bench.entry("client_secret"), bench.entry("client_id").as_deref()), (None, Some("reports@shop")));
    let told = bench.told();
    assert_eq!((told[0].2.get("secret"), told[0].2.get("before")), (None, None));
    assert_eq!(told[0], told[1]);
    assert_eq!(bench.says("Ready").0, "True");
}

#[tokio::test]
async fn what_the_auth_service_refuses_is_said_with_its_sentence_and_a_revoked_client_wants_another_resource() {
    let bench = Bench::start(spec(&json!({}))).await;
    bench.answer(409);
    bench.round().await.unwrap();
    assert_eq!(bench.says("Accepted"), ("False".into(), "RegistrationRefused".into()));
    assert!(bench.resource()["status"].to_string().contains("a sentence that says why"));
    bench.answer(410);
    bench.round().await.unwrap();
    assert_eq!(bench.says("Ready"), ("False".into(), "Revoked".into()));
    assert!(bench.resource()["status"].to_string().contains("delete the OAuthClient and make another"));
}

#[tokio::test]
async fn another_s_secret_is_left_alone_and_the_client_ends_with_its_resource() {
    let bench = Bench::start(spec(&json!({}))).await;
    let theirs = json!({
        "metadata": {"name": Bench::secret_name(), "namespace": "shop", "resourceVersion": "1"},
        "data": {"client_secret": "bWluZQ=="},
    });
    bench.put_secret(theirs.clone());
    bench.round().await.unwrap();
    assert_eq!(bench.says("Accepted"), ("False".into(), "SecretTaken".into()));
    assert_eq!((bench.secret(), bench.told().len()), (Some(theirs), 0));
    bench.delete_secret();
    bench.round().await.unwrap();
    bench.edit(json!({"metadata": {"deletionTimestamp": "2026-11-26T00:00:00Z"}}));
    bench.round().await.unwrap();
    assert_eq!(bench.resource(), Value::Null);
    let told = bench.told();
    let last = told.last().unwrap();
    assert_eq!((last.0.as_str(), last.1.as_str()), ("DELETE", "/internal/v1/clients/shop/reports"));
}
