//! A policy → the admission policies by which the API server itself injects the sidecar, and refuses selected pods that lack it. Pure.
//!
//! No webhook: nothing of ours has to run for a pod to be created. Whatever a policy says is a literal in these expressions, never a
//! part of them; what only the pod knows is computed by the API server from the pod.

mod cel;
mod containers;
mod mutation;
mod pod;
mod safety_net;
pub mod selector;

use std::collections::BTreeMap;

use cloakroom_crds::Interception;
use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MatchResources, MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding,
    MutatingAdmissionPolicyBindingSpec, MutatingAdmissionPolicySpec, NamedRuleWithOperations,
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicyBindingSpec,
    ValidatingAdmissionPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use sha2::{Digest, Sha256};

use crate::names::{self, Names};
use crate::policy::Policy;
use crate::policy::parse::Port;

pub use containers::{config_key, proof_key};

/// Raised when running pods have to be created anew because the shape of the injection changed; a new image alone does not.
const SHAPE: u32 = 1;

/// The sidecar of this installation.
#[derive(Clone, Debug, PartialEq)]
pub struct Sidecar {
    pub image: String,
    /// `IfNotPresent`, `Always` or `Never`.
    pub pull_policy: String,
    pub resources: Resources,
    /// The public URL of the auth service, for the app to verify its JWTs by.
    pub issuer: String,
    /// User name of the operator, who alone may give a running sidecar another image than this one: its old one, when this one fails.
    pub operator: String,
}

/// CPU and memory requests are always there: without them, autoscalers that look at utilisation stop working.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    pub requests: BTreeMap<String, String>,
    #[serde(default)]
    pub limits: BTreeMap<String, String>,
}

/// The cluster-scoped objects of one policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Injection {
    /// Value of the pods' annotation [`names::INJECTION_ANNOTATION`].
    pub revision: String,
    pub mutating: MutatingAdmissionPolicy,
    pub mutating_binding: MutatingAdmissionPolicyBinding,
    pub validating: ValidatingAdmissionPolicy,
    pub validating_binding: ValidatingAdmissionPolicyBinding,
}

/// `older` are the selectors of the policies in the same namespace that come first: their pods are theirs.
pub fn plan(policy: &Policy, older: &[LabelSelector], sidecar: &Sidecar) -> Injection {
    let names = Names::of(&policy.reference);
    let revision = revision(policy, sidecar);
    let metadata = metadata(policy, &names);
    let conditions = match_conditions(older);

    let mutating = MutatingAdmissionPolicySpec {
        failure_policy: Some("Fail".into()),
        reinvocation_policy: Some("IfNeeded".into()),
        match_constraints: Some(match_resources(policy, &["CREATE"])),
        match_conditions: conditions.clone(),
        variables: Some(pod::variables(policy).into_iter().chain(pod::probe_variables()).collect()),
        mutations: Some(vec![mutation::mutation(policy, &names, &revision, sidecar)]),
        ..Default::default()
    };
    let validating = ValidatingAdmissionPolicySpec {
        failure_policy: Some("Fail".into()),
        match_constraints: Some(match_resources(policy, &["CREATE", "UPDATE"])),
        match_conditions: conditions,
        variables: Some(pod::variables(policy)),
        validations: Some(safety_net::validations(policy, &names, sidecar)),
        ..Default::default()
    };
    Injection {
        revision,
        mutating: MutatingAdmissionPolicy { metadata: metadata.clone(), spec: Some(mutating) },
        mutating_binding: MutatingAdmissionPolicyBinding {
            metadata: metadata.clone(),
            spec: Some(MutatingAdmissionPolicyBindingSpec {
                policy_name: Some(names.admission.clone()),
                ..Default::default()
            }),
        },
        validating: ValidatingAdmissionPolicy { metadata: metadata.clone(), spec: Some(validating), status: None },
        validating_binding: ValidatingAdmissionPolicyBinding {
            metadata,
            spec: ValidatingAdmissionPolicyBindingSpec {
                policy_name: names.admission,
                validation_actions: vec!["Deny".into()],
                ..Default::default()
            },
        },
    }
}

fn metadata(policy: &Policy, names: &Names) -> ObjectMeta {
    ObjectMeta {
        name: Some(names.admission.clone()),
        labels: Some([(names::MANAGED_BY_LABEL.to_owned(), names::MANAGED_BY.to_owned())].into()),
        annotations: Some([(names::POLICY_ANNOTATION.to_owned(), policy.reference.to_string())].into()),
        ..Default::default()
    }
}

/// Exactly the pods that the policy selects: no other pod ever notices.
fn match_resources(policy: &Policy, operations: &[&str]) -> MatchResources {
    let namespace = [("kubernetes.io/metadata.name".to_owned(), policy.reference.namespace().to_owned())];
    MatchResources {
        namespace_selector: Some(LabelSelector { match_labels: Some(namespace.into()), match_expressions: None }),
        object_selector: Some(policy.selector.clone()),
        resource_rules: Some(vec![NamedRuleWithOperations {
            api_groups: Some(vec![String::new()]),
            api_versions: Some(vec!["v1".into()]),
            operations: Some(operations.iter().map(|&operation| operation.into()).collect()),
            resources: Some(vec!["pods".into()]),
            ..Default::default()
        }]),
        ..Default::default()
    }
}

/// A pod that an older policy selects too is left to that one, also if it is born while the operator is away.
fn match_conditions(older: &[LabelSelector]) -> Option<Vec<MatchCondition>> {
    let selectors: Vec<String> = older.iter().map(selector::to_cel).collect();
    (!selectors.is_empty()).then(|| {
        vec![MatchCondition { name: "no-older-policy".into(), expression: format!("!({})", selectors.join(" || ")) }]
    })
}

/// Of everything that is baked into a pod and cannot change while it runs. Not of the image, which can; nor of the resources, which are
/// no reason to restart anything.
fn revision(policy: &Policy, sidecar: &Sidecar) -> String {
    let interception = match policy.interception {
        Interception::Redirect => "Redirect",
        Interception::Loopback => "Loopback",
    };
    let ports: Vec<String> = policy.ports.iter().map(port_text).collect();
    let environment: Vec<[&str; 2]> = policy.app_environment.iter().map(|(k, v)| [k.as_str(), v.as_str()]).collect();
    let mut baked = serde_json::json!([SHAPE, interception, ports, environment, sidecar.issuer, policy.audience]);
    // Pods without it are as they were before there was TLS.
    if let (Some(secret), Some(baked)) = (&policy.tls, baked.as_array_mut()) {
        baked.push(secret.as_str().into());
    }
    Sha256::digest(baked.to_string()).iter().take(6).fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

fn port_text(port: &Port) -> String {
    match port {
        Port::Name(name) => name.clone(),
        Port::Number(number) => number.to_string(),
    }
}
