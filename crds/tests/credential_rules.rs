//! The CEL rules of the kinds that ask for a credential, evaluated as the API server does.

#![expect(clippy::unwrap_used, reason = "a test whose input cannot be read fails")]

use cloakroom_crds::yaml;
use kube::core::cel::Validator;
use rstest::rstest;
use serde_json::{Value, json};

#[rstest]
#[case("{audiences: [shop/shop]}")]
#[case("{audiences: [shop/shop, shop-api], scopes: [orders], expiresAt: 2027-06-30T00:00:00Z}")]
#[case("{audiences: [shop/shop], rotation: {every: 720h, overlap: 24h, trigger: '2026-11-26'}}")]
#[case("{audiences: [shop/shop], rotation: {overlap: 0s}}")]
#[case("{audiences: [shop/shop], rotation: {every: 25h}}")]
fn what_makes_sense_passes(#[case] spec: &str) {
    assert_eq!(key("reports", spec), Vec::<String>::new());
}

#[rstest]
#[case("{audiences: [a], rotation: {every: 59m, overlap: 0s}}", "at least 1h")]
#[case("{audiences: [a], rotation: {every: 24h}}", "longer than overlap")]
#[case("{audiences: [a], rotation: {every: 2h, overlap: 2h}}", "longer than overlap")]
#[case("{audiences: [a], rotation: {overlap: 721h}}", "at most 720h")]
fn a_contradiction_is_refused_with_a_sentence(#[case] spec: &str, #[case] sentence: &str) {
    let refusals = key("reports", spec);
    assert!(refusals.iter().any(|refusal| refusal.contains(sentence)), "{spec}\n{refusals:?}");
}

#[test]
fn a_name_too_long_for_a_subject_is_refused() {
    for refusals in [key(&"n".repeat(64), "{audiences: [a]}"), client(&"n".repeat(64), &of_client("{}"), None)] {
        assert!(refusals.iter().any(|refusal| refusal.contains("at most 63 characters")), "{refusals:?}");
    }
}

#[test]
fn the_example_passes() {
    let text = include_str!("../../examples/credentials/api-key.yaml");
    let object: Value = serde_norway::from_str(text).unwrap();
    let key: cloakroom_crds::ApiKey = serde_json::from_value(object.clone()).unwrap();
    assert!(key.spec.expires_at.is_some() && key.spec.rotation.every.is_some(), "no field is misspelt");
    assert!(Validator::new().validate_with_defaults(&schema(), &object, None).is_ok());
}

/// What CEL has nothing to do with: the API server refuses it by the schema itself.
#[test]
fn the_schema_bounds_every_list_and_text() {
    let schema = schema();
    let spec = &schema["properties"]["spec"]["properties"];
    assert_eq!((&spec["audiences"]["minItems"], &spec["audiences"]["maxItems"]), (&json!(1), &json!(100)));
    assert_eq!(spec["expiresAt"]["format"], "date-time");
    assert_eq!(spec["rotation"]["properties"]["trigger"]["maxLength"], 64);
    assert_eq!(schema["properties"]["spec"]["required"], json!(["audiences"]));
}

#[rstest]
#[case("{}")]
#[case(
    "{type: Public, redirectURIs: ['http://127.0.0.1/cb', 'http://[::1]:80/cb', 'http://localhost:3000', 'com.example.app:/cb']}"
)]
#[case("{grantTypes: [authorization_code, refresh_token], postLogoutRedirectURIs: ['https://app.example.com/']}")]
#[case("{grantTypes: [client_credentials], redirectURIs: [], audiences: [shop/web], scopes: [orders]}")]
#[case(
    "{rotation: {every: 720h, trigger: now}, requireMfa: true, dpopBoundAccessTokens: true, displayName: 'Die App'}"
)]
fn a_client_that_makes_sense_passes(#[case] changes: &str) {
    assert_eq!(client("reports", &of_client(changes), None), Vec::<String>::new());
}

#[rstest]
#[case("{redirectURIs: []}", "must say where")]
#[case("{grantTypes: [client_credentials]}", "belong to the grant type")]
#[case("{redirectURIs: ['http://app.example.com/cb']}", "a redirect URI is https")]
#[case("{redirectURIs: ['http://127.0.0.1.evil.example/cb']}", "a redirect URI is https")]
#[case("{redirectURIs: ['http://localhost@evil.example/cb']}", "a redirect URI is https")]
#[case("{redirectURIs: ['javascript:alert(1)']}", "a redirect URI is https")]
#[case("{redirectURIs: ['https://app.example.com/cb', '/cb']}", "a redirect URI is https")]
#[case("{postLogoutRedirectURIs: ['data:text/html,x.y']}", "an address after signing out")]
#[case("{type: Public, grantTypes: [authorization_code, client_credentials]}", "needs type Confidential")]
#[case("{grantTypes: [client_credentials, refresh_token], redirectURIs: []}", "refresh tokens come with")]
#[case("{type: Public, rotation: {every: 720h}}", "no secret that could be replaced")]
#[case("{type: Public, rotation: {trigger: now}}", "no secret that could be replaced")]
#[case("{rotation: {every: 24h}}", "longer than overlap")]
fn a_client_that_contradicts_itself_is_refused_with_a_sentence(#[case] changes: &str, #[case] sentence: &str) {
    let refusals = client("reports", &of_client(changes), None);
    assert!(refusals.iter().any(|refusal| refusal.contains(sentence)), "{changes}\n{refusals:?}");
}

#[rstest]
#[case("{}", "{type: Public}")]
#[case("{type: Public}", "{type: Confidential}")]
fn a_client_s_type_stays_as_it_is(#[case] before: &str, #[case] after: &str) {
    let (before, after) = (of_client(before), of_client(after));
    let refusals = client("reports", &after, Some(&before));
    assert!(refusals.iter().any(|refusal| refusal.contains("make another")), "{refusals:?}");
    assert_eq!(client("reports", &after, Some(&after)), Vec::<String>::new());
}

#[test]
fn the_example_of_a_client_passes() {
    let text = include_str!("../../examples/credentials/oauth-client.yaml");
    let object: Value = serde_norway::from_str(text).unwrap();
    let client: cloakroom_crds::OAuthClient = serde_json::from_value(object.clone()).unwrap();
    assert!(!client.spec.post_logout_redirect_uris.is_empty() && client.spec.rotation.every.is_some());
    assert!(Validator::new().validate_with_defaults(&schema_of(&yaml::oauth_client()), &object, None).is_ok());
}

/// What a tenant of a namespace is to have no way to ask for.
#[test]
fn a_client_s_definition_has_no_field_for_what_it_may_not_be() {
    let schema = schema_of(&yaml::oauth_client());
    let spec = schema["properties"]["spec"]["properties"].as_object().unwrap();
    let fields: Vec<&str> = spec.keys().map(String::as_str).collect();
    let all = [
        "audiences",
        "displayName",
        "dpopBoundAccessTokens",
        "grantTypes",
        "postLogoutRedirectURIs",
        "redirectURIs",
        "requireMfa",
        "rotation",
        "scopes",
        "type",
    ];
    assert_eq!(fields, all);
    assert_eq!(spec["type"]["enum"], json!(["Confidential", "Public"]));
    assert_eq!(
        spec["grantTypes"]["items"]["enum"],
        json!(["authorization_code", "refresh_token", "client_credentials"])
    );
    assert_eq!((&spec["redirectURIs"]["maxItems"], &spec["displayName"]["maxLength"]), (&json!(32), &json!(80)));
}

fn key(name: &str, spec: &str) -> Vec<String> {
    let spec: Value = serde_norway::from_str(spec).unwrap();
    refusals(&yaml::api_key(), &object("ApiKey", name, &spec), None)
}

/// One that signs people in, with these changes.
fn of_client(changes: &str) -> Value {
    let mut spec = json!({"redirectURIs": ["https://app.example.com/cb"]});
    let changes: Value = serde_norway::from_str(changes).unwrap();
    spec.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    spec
}

fn client(name: &str, spec: &Value, before: Option<&Value>) -> Vec<String> {
    let before = before.map(|before| object("OAuthClient", name, before));
    refusals(&yaml::oauth_client(), &object("OAuthClient", name, spec), before.as_ref())
}

fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "cloakroom.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn refusals(definition: &Value, object: &Value, before: Option<&Value>) -> Vec<String> {
    match Validator::new().validate_with_defaults(&schema_of(definition), object, before) {
        Ok(()) => Vec::new(),
        Err(refused) => refused.iter().map(|e| format!("{}: {}", e.field_path, e.message)).collect(),
    }
}

fn schema() -> Value {
    schema_of(&yaml::api_key())
}

fn schema_of(definition: &Value) -> Value {
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}
