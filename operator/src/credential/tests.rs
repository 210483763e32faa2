//! Whole rounds of a credential, against an API server and an auth service that keep what they are told.

mod bench;
mod clients;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cloakroom_protocol::token::OpaqueToken;
use serde_json::{Value, json};

use super::ApiKey;

type Bench = bench::Bench<ApiKey>;

fn hash(key: &OpaqueToken) -> String {
    URL_SAFE_NO_PAD.encode(key.secret_hash().as_bytes())
}

#[tokio::test]
async fn what_the_auth_service_is_told_is_the_hash_of_what_the_secret_holds() {
    let bench = Bench::start(json!({"audiences": ["shop/web"], "scopes": ["orders"]})).await;
    bench.round().await.unwrap();
    let key = bench.key();
    let told = bench.told();
    assert_eq!((told[0].0.as_str(), told[0].1.as_str()), ("PUT", "/internal/v1/api-keys/shop/reports"));
    assert_eq!((&told[0].2["secret"], &told[0].2["id"]), (&json!(hash(&key)), &json!(key.id())));
    let resource = bench.resource();
    assert_eq!(resource["metadata"]["finalizers"], json!(["cloakroom.dev/credential"]));
    assert_eq!((bench.says("Accepted").0, bench.says("Ready").0), ("True".to_owned(), "True".to_owned()));
    assert_eq!(
        (&resource["status"]["secretName"], &resource["status"]["id"]),
        (&json!(Bench::secret_name()), &json!(key.id()))
    );
    let everything = format!("{resource} {told:?} {:?}", bench.events());
    assert!(!everything.contains(&key.expose()[25..60]), "the secret is in its Secret only");
    // And again: nothing changes, and the auth service is told the same, in case it has forgotten.
    let before = bench.objects();
    bench.round().await.unwrap();
    assert_eq!(bench.objects(), before);
    assert_eq!(bench.told()[1], told[0]);
}

#[tokio::test]
async fn nothing_is_registered_that_no_secret_holds() {
    let bench = Bench::start(json!({"audiences": ["shop/web"]})).await;
    bench.fail("POST", "/secrets");
    bench.round().await.unwrap_err();
    assert!(bench.told().is_empty());
    bench.mend();
    bench.round().await.unwrap();
    assert_eq!(bench.told()[0].2["secret"], json!(hash(&bench.key())));
    // A rotation that somebody else has been ahead of is not registered either.
    let first = bench.key();
    bench.edit(json!({"spec": {"rotation": {"trigger": "now"}}}));
    bench.fail("PATCH", "/secrets/cloakroom.reports");
    bench.round().await.unwrap_err();
    assert_eq!(bench.told().len(), 1);
    bench.mend();
    bench.round().await.unwrap();
    let told = &bench.told()[1].2;
    assert_eq!((&told["secret"], &told["before"]["secret"]), (&json!(hash(&bench.key())), &json!(hash(&first))));
    assert_eq!(bench.key().id(), first.id());
    assert!(bench.resource()["status"]["oldSecretUntil"].is_string());
}

#[tokio::test]
async fn an_auth_service_that_is_away_gets_the_same_key_later() {
    let bench = Bench::start(json!({"audiences": ["shop/web"]})).await;
    bench.answer(503);
    bench.round().await.unwrap();
    let key = bench.key();
    assert_eq!(bench.says("Ready"), ("False".into(), "AuthServiceUnreachable".into()));
    bench.answer(204);
    bench.round().await.unwrap();
    assert_eq!((bench.key(), bench.says("Ready").0), (key.clone(), "True".to_owned()));
    bench.answer(503);
    bench.round().await.unwrap();
    assert_eq!(bench.says("Ready").0, "True", "an outage takes nothing back");
}

#[tokio::test]
async fn a_secret_that_was_there_before_is_neither_written_nor_believed() {
    let bench = Bench::start(json!({"audiences": ["shop/web"]})).await;
    let mine = json!({"metadata": {"name": Bench::secret_name(), "namespace": "shop", "resourceVersion": "1"}, "data": {"api_key": "bWluZQ=="}});
    bench.put_secret(mine.clone());
    bench.round().await.unwrap();
    assert_eq!(bench.says("Accepted"), ("False".into(), "SecretTaken".into()));
    assert_eq!((bench.secret(), bench.told().len()), (Some(mine), 0));
    bench.delete_secret();
    bench.round().await.unwrap();
    assert_eq!(bench.says("Ready").0, "True");
}

#[tokio::test]
async fn what_the_auth_service_refuses_or_has_revoked_is_said_with_its_reason() {
    let bench = Bench::start(json!({"audiences": ["bank/web"]})).await;
    bench.answer(409);
    bench.round().await.unwrap();
    assert_eq!(bench.says("Accepted"), ("False".into(), "RegistrationRefused".into()));
    bench.answer(410);
    bench.round().await.unwrap();
    assert_eq!(bench.says("Ready"), ("False".into(), "Revoked".into()));
    let revoked = bench.key();
    bench.answer(204);
    bench.delete_secret();
    bench.round().await.unwrap();
    assert_ne!(bench.key().id(), revoked.id());
    assert_eq!(bench.says("Ready").0, "True");
    assert!(bench.events().iter().any(|event| event["reason"] == "Revoked"), "{:?}", bench.events());
}

#[tokio::test]
async fn a_key_that_has_ended_is_not_registered_again() {
    let bench = Bench::start(json!({"audiences": ["shop/web"], "expiresAt": "2020-01-01T00:00:00Z"})).await;
    bench.round().await.unwrap();
    assert_eq!((bench.says("Ready").1.as_str(), bench.told().len()), ("Expired", 0));
}

#[tokio::test]
async fn a_resource_is_not_let_go_before_its_key_has_ended() {
    let bench = Bench::start(json!({"audiences": ["shop/web"]})).await;
    bench.round().await.unwrap();
    bench.edit(json!({"metadata": {"deletionTimestamp": "2026-11-26T00:00:00Z"}}));
    bench.answer(503);
    bench.round().await.unwrap_err();
    assert_eq!(bench.says("Ready"), ("False".into(), "AuthServiceUnreachable".into()));
    bench.answer(204);
    bench.round().await.unwrap();
    assert_eq!(bench.resource(), Value::Null);
    let told = bench.told();
    let last = told.last().unwrap();
    assert_eq!((last.0.as_str(), last.1.as_str()), ("DELETE", "/internal/v1/api-keys/shop/reports"));
}

#[tokio::test]
async fn no_credential_is_made_where_nothing_can_be_protected() {
    let bench = Bench::start(json!({"audiences": ["kube-system/web"]})).await;
    bench.move_to("kube-system");
    bench.round().await.unwrap();
    assert_eq!(bench.says("Accepted"), ("False".into(), "ForbiddenNamespace".into()));
    assert!(bench.told().is_empty());
}
