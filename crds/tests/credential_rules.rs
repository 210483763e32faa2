//! The CEL rules of the kinds that ask for a credential, evaluated as the API server does.

#![expect(clippy::unwrap_used, reason = "a test whose input cannot be read fails")]

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
    assert_eq!(refusals("reports", spec), Vec::<String>::new());
}

#[rstest]
#[case("{audiences: [a], rotation: {every: 59m, overlap: 0s}}", "at least 1h")]
#[case("{audiences: [a], rotation: {every: 24h}}", "longer than overlap")]
#[case("{audiences: [a], rotation: {every: 2h, overlap: 2h}}", "longer than overlap")]
#[case("{audiences: [a], rotation: {overlap: 721h}}", "at most 720h")]
fn a_contradiction_is_refused_with_a_sentence(#[case] spec: &str, #[case] sentence: &str) {
    let refusals = refusals("reports", spec);
    assert!(refusals.iter().any(|refusal| refusal.contains(sentence)), "{spec}\n{refusals:?}");
}

#[test]
fn a_name_too_long_for_a_subject_is_refused() {
    let refusals = refusals(&"n".repeat(64), "{audiences: [a]}");
    assert!(refusals.iter().any(|refusal| refusal.contains("at most 63 characters")), "{refusals:?}");
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

fn refusals(name: &str, spec: &str) -> Vec<String> {
    let spec: Value = serde_norway::from_str(spec).unwrap();
    let object =
        json!({"apiVersion": "cloakroom.dev/v1alpha1", "kind": "ApiKey", "metadata": {"name": name}, "spec": spec});
    match Validator::new().validate_with_defaults(&schema(), &object, None) {
        Ok(()) => Vec::new(),
        Err(refused) => refused.iter().map(|e| format!("{}: {}", e.field_path, e.message)).collect(),
    }
}

fn schema() -> Value {
    cloakroom_crds::yaml::api_key()["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}
