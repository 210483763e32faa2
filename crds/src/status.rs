//! What the operator reports. Condition names follow the Gateway API's conventions for policies.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// What the operator last saw and did.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AuthPolicyStatus {
    /// The `metadata.generation` that this status speaks of. Lower than the policy's: the operator has not seen the last edit yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// `Accepted`: the policy is valid and in force for new pods. `Enforced`: measured on every matched pod. `Degraded`: something
    /// works less well than it should.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = 8))]
    pub conditions: Vec<Condition>,

    /// Running pods that the selector matches.
    #[serde(default)]
    pub matched_pods: i32,

    /// Matched pods whose protected ports were seen to be answered by the sidecar.
    #[serde(default)]
    pub protected_pods: i32,

    /// Matched pods without the sidecar, or with another one than the policy asks for now.
    #[serde(default)]
    pub outdated_pods: i32,

    /// `protectedPods/matchedPods`, for the table of `kubectl get`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub protected: String,

    /// The revision of the sidecars' configuration that this policy compiles to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_revision: Option<String>,
}

/// The conditions' types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionType {
    Accepted,
    Enforced,
    Degraded,
    Ready,
}

impl ConditionType {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::Enforced => "Enforced",
            Self::Degraded => "Degraded",
            Self::Ready => "Ready",
        }
    }
}

/// Why a condition is what it is. The message beside it says what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Valid, and injected into new pods.
    Accepted,
    /// The policy contradicts itself or says something that cannot be done.
    Invalid,
    /// An older policy protects the same pods and ports.
    Conflicted,
    /// No policies in this namespace.
    ForbiddenNamespace,
    /// The namespace's Pod Security level forbids what this interception needs.
    PodSecurity,
    /// The auth service refused the registration.
    RegistrationRefused,
    /// Every matched pod proved that its sidecar answers.
    Enforced,
    /// Decisions are made and logged, not enforced.
    Shadow,
    /// No running pod matches.
    NoPods,
    /// Matched pods are being restarted.
    RollingOut,
    /// Matched pods lack the sidecar, and nothing restarts them.
    Outdated,
    /// Something other than the sidecar answers on a protected port.
    Bypassed,
    /// A protected port did not answer the proof.
    Unproven,
    /// The API server does not inject yet.
    NotInjecting,
    /// The policy is not accepted.
    NotAccepted,
    /// Everything works.
    Healthy,
    /// The auth service does not answer the operator.
    AuthServiceUnreachable,
    /// Pods cannot be created as they should be, or restarts do not help; the operator waits longer each time.
    RolloutStuck,
    /// Pods that nothing restarts lack the sidecar.
    RestartNeeded,
    /// The sidecar's new image did not become ready.
    UpgradeFailed,
    /// Not every sidecar has taken the new configuration yet.
    Updating,
    /// The Secret holds a credential that is good.
    Ready,
    /// There is a Secret of the name that the operator would use, and it belongs to somebody else.
    SecretTaken,
    /// An administrator revoked the credential.
    Revoked,
    /// The credential's time is over.
    Expired,
}

impl Reason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::Invalid => "Invalid",
            Self::Conflicted => "Conflicted",
            Self::ForbiddenNamespace => "ForbiddenNamespace",
            Self::PodSecurity => "PodSecurity",
            Self::RegistrationRefused => "RegistrationRefused",
            Self::Enforced => "Enforced",
            Self::Shadow => "Shadow",
            Self::NoPods => "NoPods",
            Self::RollingOut => "RollingOut",
            Self::Outdated => "Outdated",
            Self::Bypassed => "Bypassed",
            Self::Unproven => "Unproven",
            Self::NotInjecting => "NotInjecting",
            Self::NotAccepted => "NotAccepted",
            Self::Healthy => "Healthy",
            Self::AuthServiceUnreachable => "AuthServiceUnreachable",
            Self::RolloutStuck => "RolloutStuck",
            Self::RestartNeeded => "RestartNeeded",
            Self::UpgradeFailed => "UpgradeFailed",
            Self::Updating => "Updating",
            Self::Ready => "Ready",
            Self::SecretTaken => "SecretTaken",
            Self::Revoked => "Revoked",
            Self::Expired => "Expired",
        }
    }
}
