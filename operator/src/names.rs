//! What the objects of a policy are called.

use cloakroom_protocol::policy_ref::PolicyRef;
use serde::Serialize;
use sha2::{Digest, Sha256};

/// Marks every object that the operator made, so that it can find those that lost their policy.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
pub const MANAGED_BY: &str = "cloakroom-operator";
/// On cluster-scoped objects: the policy that they belong to.
pub const POLICY_ANNOTATION: &str = cloakroom_protocol::injected::POLICY_ANNOTATION;
/// The config revision that kubelet was last pointed at.
pub const REVISION_ANNOTATION: &str = cloakroom_protocol::injected::REVISION_ANNOTATION;
/// The image that was injected.
pub const IMAGE_ANNOTATION: &str = "cloakroom.dev/image";
/// What of the policy is baked into a pod when it is created; another value than the policy's means that the pod is outdated.
pub const INJECTION_ANNOTATION: &str = "cloakroom.dev/injection";
/// On a workload's pod template: a new value restarts its pods.
pub const RESTARTED_ANNOTATION: &str = "cloakroom.dev/restarted-for";
/// On cluster-scoped objects: of what we wrote.
pub const DIGEST_ANNOTATION: &str = "cloakroom.dev/digest";
pub const FINALIZER: &str = "cloakroom.dev/injection";
/// On resources that ask for a credential.
pub const CREDENTIAL_FINALIZER: &str = "cloakroom.dev/credential";
/// On a credential's Secret: when what it holds was made, and what `spec.rotation.trigger` said then.
pub const MADE_ANNOTATION: &str = "cloakroom.dev/made";
pub const TRIGGER_ANNOTATION: &str = "cloakroom.dev/trigger";
/// The hash of the secret before, and until when that is good.
pub const BEFORE_ANNOTATION: &str = "cloakroom.dev/before";
pub const FIELD_MANAGER: &str = "cloakroom-operator";

/// Names of one policy's objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// Of the cluster-scoped admission policies and their bindings.
    pub admission: String,
    pub config_map: String,
    pub proof_secret: String,
}

impl Names {
    /// A namespace has no dots (RFC 1123 label), so that the first one after the prefix ends it: no two policies share a name.
    pub fn of(policy: &PolicyRef) -> Self {
        Self {
            admission: format!("cloakroom.{}.{}", policy.namespace(), policy.name()),
            config_map: format!("cloakroom.{}", policy.name()),
            proof_secret: format!("cloakroom.{}.proof-key", policy.name()),
        }
    }
}

/// The Secret of a resource that asks for a credential; the operator's leash lets it write no Secret whose name begins otherwise. A policy's
/// Secret has another ending, so that they share no name.
pub fn credential_secret(resource: &str, suffix: &str) -> String {
    format!("cloakroom.{resource}.{suffix}")
}

/// The first 64 bits of SHA-256 over the JSON, in hex. Field order is declaration order and maps are sorted, so that equal contents have
/// equal digests.
pub fn digest(content: &impl Serialize) -> String {
    // What is digested consists of structs and maps with string keys: nothing in it can fail to serialise.
    let json = serde_json::to_vec(content).unwrap_or_default();
    Sha256::digest(json).iter().take(8).fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_policies_share_a_name() {
        let policies = ["a/b", "a/b.c", "a-b/c", "a/b-c", "a/b.proof-key"];
        let names = policies.map(|p| Names::of(&p.parse().unwrap()));
        for (i, a) in names.iter().enumerate() {
            for b in &names[i + 1..] {
                assert_ne!(a.admission, b.admission);
            }
        }
        let same_namespace = [&names[0], &names[1], &names[3], &names[4]];
        for (i, a) in same_namespace.iter().enumerate() {
            for b in &same_namespace[i + 1..] {
                assert!(a.config_map != b.config_map && a.proof_secret != b.proof_secret);
            }
        }
    }
}
