//! `ApiKey`: a key for a program, written to a Secret. What can be refused at `kubectl apply` is refused here, each with a sentence.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::credential::{CredentialStatus, Rotation};

/// What a key may do, and for how long.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "cloakroom.dev",
    version = "v1alpha1",
    kind = "ApiKey",
    plural = "apikeys",
    category = "cloakroom",
    namespaced,
    status = "CredentialStatus",
    derive = "PartialEq",
    cel,
    doc = "A key for a program that calls protected apps of this namespace. The operator writes it to the Secret cloakroom.<name>.api-key, entry api_key; the auth service keeps its hash only.",
    validation = Rule::new("size(self.metadata.name) <= 63").message("the name is part of the key's subject and of its Secret's name: use at most 63 characters"),
    printcolumn(name = "Accepted", type_ = "string", json_path = ".status.conditions[?(@.type=='Accepted')].status", description = "The auth service takes it as it is."),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status", description = "The Secret holds a key that is good."),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason", description = "Why Ready is what it is."),
    printcolumn(name = "Secret", type_ = "string", json_path = ".status.secretName", description = "Where the key is."),
    printcolumn(name = "Id", type_ = "string", json_path = ".status.id", description = "The public part of the key, as logs show it.", priority = 1),
    printcolumn(name = "Made", type_ = "date", json_path = ".status.madeAt", description = "When the present secret was made.", priority = 1),
    printcolumn(name = "Expires", type_ = "string", json_path = ".spec.expiresAt", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeySpec {
    /// The audience of each AuthPolicy, of this namespace, where the key counts: `<namespace>/<name>` unless the policy says otherwise with
    /// `jwt.audience`.
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[schemars(length(min = 1, max = 100), inner(length(min = 1, max = 256), regex(pattern = r"^[!-~]+$")))]
    pub audiences: Vec<String>,

    /// What it may do there; the policies' rules ask for it with `require.scopes`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[schemars(length(max = 100), inner(length(min = 1, max = 128), regex(pattern = r"^[!#-\[\]-~]+$")))]
    pub scopes: Vec<String>,

    /// When the key ends, e.g. `2027-06-30T00:00:00Z`. Without it: when this resource is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,

    /// New secrets, by time and on demand.
    #[serde(default)]
    pub rotation: Rotation,
}
