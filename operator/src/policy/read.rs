//! An AuthPolicy from a YAML file, judged as the API server would: unknown fields, defaults, and the CRD's CEL rules.

use cloakroom_crds::AuthPolicy;
use kube::core::cel::Validator;
use serde_json::Value;

#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    #[error("not YAML: {0}")]
    Yaml(#[from] serde_norway::Error),
    #[error("expected one AuthPolicy of cloakroom.dev/v1alpha1, found {0}")]
    OtherKind(String),
    #[error("{0}: there is no such field")]
    UnknownField(String),
    #[error("{0}")]
    Shape(#[from] serde_json::Error),
    #[error("{path}: {sentence}")]
    Refused { path: String, sentence: String },
}

/// Reads the one AuthPolicy of a YAML text. A missing namespace is `default`, as for `kubectl apply`.
pub fn read(text: &str) -> Result<AuthPolicy, Unreadable> {
    let object: Value = serde_norway::from_str(text)?;
    let (version, kind) = (&object["apiVersion"], &object["kind"]);
    if version != "cloakroom.dev/v1alpha1" || kind != "AuthPolicy" {
        return Err(Unreadable::OtherKind(format!("{kind} of {version}")));
    }
    let schema = &cloakroom_crds::yaml::auth_policy()["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    if let Some(field) = unknown_field(&schema["properties"]["spec"], &object["spec"], "spec") {
        return Err(Unreadable::UnknownField(field));
    }
    let mut policy: AuthPolicy = serde_json::from_value(object)?;
    if let Err(refused) = Validator::new().validate(schema, &serde_json::to_value(&policy)?, None)
        && let Some(first) = refused.first()
    {
        return Err(Unreadable::Refused { path: first.field_path.clone(), sentence: first.message.clone() });
    }
    policy.metadata.namespace.get_or_insert_with(|| "default".to_owned());
    Ok(policy)
}

/// The first field that the schema does not know. The API server drops such a field with a warning; here it would go unnoticed.
fn unknown_field(schema: &Value, value: &Value, path: &str) -> Option<String> {
    match value {
        Value::Object(fields) => fields.iter().find_map(|(name, inner)| {
            let path = format!("{path}.{name}");
            match schema["properties"].get(name).or_else(|| schema.get("additionalProperties")) {
                Some(schema) => unknown_field(schema, inner, &path),
                None => Some(path),
            }
        }),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .find_map(|(index, item)| unknown_field(&schema["items"], item, &format!("{path}[{index}]"))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: cloakroom.dev/v1alpha1\nkind: AuthPolicy\nmetadata: {name: shop}\n";

    fn refusal(spec: &str) -> String {
        read(&format!("{HEAD}spec: {spec}")).unwrap_err().to_string()
    }

    #[test]
    fn defaults_are_those_of_the_definition() {
        let policy = read(&format!("{HEAD}spec: {{selector: {{matchLabels: {{app: shop}}}}}}")).unwrap();
        assert_eq!(policy.metadata.namespace.as_deref(), Some("default"));
        assert_eq!(policy.spec.jwt.lifetime, "60s");
        assert_eq!(policy.spec.token.sources.len(), 2);
    }

    #[test]
    fn a_misspelt_field_is_named() {
        let spec = "{selector: {matchLabels: {app: a}}, rules: [{match: [{path: /a}], acces: Deny}]}";
        assert_eq!(refusal(spec), "spec.rules[0].acces: there is no such field");
    }

    #[test]
    fn the_definitions_rules_are_in_force() {
        assert!(refusal("{selector: {}}").contains("an empty selector"));
        assert!(refusal("{selector: {matchLabels: {a: b}}, outage: {mode: Lease}}").contains("Lease needs it"));
    }

    #[test]
    fn another_kind_is_refused() {
        assert!(read("kind: Pod\napiVersion: v1").unwrap_err().to_string().contains("found \"Pod\""));
        assert!(read("[]").is_err());
        assert!(read("").is_err());
    }
}
