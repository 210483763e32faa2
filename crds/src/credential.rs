//! What the kinds that ask for a credential have in common.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// When a new secret replaces the one in the Secret. Deleting the Secret does so, too, and ends the old one at once.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.every) || duration(self.every) >= duration('1h')").message("every must be at least 1h").field_path(".every"),
    validation = Rule::new("!has(self.every) || duration(self.every) > duration(self.overlap)")
        .message("every must be longer than overlap: two secrets are good at a time, not three").field_path(".every"),
    validation = Rule::new("duration(self.overlap) <= duration('720h')").message("overlap must be at most 720h (30 days)").field_path(".overlap")
)]
pub struct Rotation {
    /// How old a secret gets, e.g. `720h`. Without it, none is replaced for its age.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20), regex(pattern = r"^([0-9]{1,5}(h|m|s)){1,3}$"))]
    pub every: Option<String>,

    /// For how long the secret before stays good, so that whoever uses it has time to change. `0s`: it has leaked.
    #[serde(default = "default_overlap")]
    #[schemars(length(max = 20), regex(pattern = r"^([0-9]{1,5}(h|m|s)){1,3}$"))]
    pub overlap: String,

    /// Another text than before asks for a new secret now; a date says why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub trigger: String,
}

impl Default for Rotation {
    fn default() -> Self {
        Self { every: None, overlap: default_overlap(), trigger: String::new() }
    }
}

fn default_overlap() -> String {
    "24h".into()
}

/// What the operator last saw and did.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CredentialStatus {
    /// The `metadata.generation` that this status speaks of. Lower than the resource's: the operator has not seen the last edit yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// `Accepted`: the auth service takes it as it is. `Ready`: the Secret holds a credential that is good.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = 8))]
    pub conditions: Vec<Condition>,

    /// The Secret, in the same namespace, with the credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,

    /// What names the credential in logs and in the admin API: no secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,

    /// When the present secret was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_at: Option<Time>,

    /// While a rotation overlaps: until when the secret before is good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_secret_until: Option<Time>,
}
