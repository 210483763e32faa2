//! The YAML of the custom resource definitions, generated from the types.

use std::path::PathBuf;

use kube::CustomResourceExt;
use serde_json::Value;

use crate::{ApiKey, AuthPolicy, OAuthClient};

/// One generated file.
pub struct File {
    pub name: &'static str,
    pub text: String,
}

impl File {
    /// Where it lives in the repository.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(self.name)
    }
}

/// Every file that is generated from the types of this crate.
pub fn files() -> Vec<File> {
    vec![
        File { name: "authpolicies.cloakroom.dev.yaml", text: yaml(&auth_policy()) },
        File { name: "apikeys.cloakroom.dev.yaml", text: yaml(&api_key()) },
        File { name: "oauthclients.cloakroom.dev.yaml", text: yaml(&oauth_client()) },
    ]
}

/// The definition of `AuthPolicy`, as installed.
pub fn auth_policy() -> Value {
    definition::<AuthPolicy>()
}

/// The definition of `ApiKey`, as installed.
pub fn api_key() -> Value {
    definition::<ApiKey>()
}

/// The definition of `OAuthClient`, as installed.
pub fn oauth_client() -> Value {
    definition::<OAuthClient>()
}

fn definition<K: CustomResourceExt>() -> Value {
    let mut crd = serde_json::to_value(K::crd()).unwrap_or_default();
    remove_nullable(&mut crd);
    crd
}

/// Absent is the one way to leave a field out: CEL's `has()` is true of a null, so that rules would see fields that are not there.
fn remove_nullable(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            map.remove("nullable");
            map.values_mut().for_each(remove_nullable);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_nullable),
        _ => {}
    }
}

fn yaml(crd: &Value) -> String {
    // Maps with string keys only; nothing in it can fail to serialise.
    let body = serde_norway::to_string(crd).unwrap_or_default();
    format!("# Generated from crds/src: change the types, then `cargo run -p cloakroom-crds --bin crdgen`.\n{body}")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_yaml_is_what_the_types_say() {
        for file in super::files() {
            let committed = std::fs::read_to_string(file.path()).unwrap_or_default();
            assert!(
                committed == file.text,
                "{} differs from the types: run `cargo run -p cloakroom-crds --bin crdgen`",
                file.name
            );
        }
    }
}
