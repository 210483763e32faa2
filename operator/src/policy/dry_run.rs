//! Pods that are never created: what the API server would make of them, or why it would not.

use cloakroom_protocol::policy_ref::PolicyRef;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use serde_json::json;

use super::pods;

/// What the API server would do with a pod of this workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Injected for this policy, with this revision and image.
    Injected {
        policy: String,
        injection: String,
    },
    Plain,
    /// The API server's own sentence.
    Refused(String),
}

/// Creates a pod of the template, as a dry run.
pub(super) async fn of_template(
    client: &Client,
    policy: &PolicyRef,
    name: &str,
    template: &PodTemplateSpec,
) -> Result<Verdict, kube::Error> {
    let given = template.metadata.clone().unwrap_or_default();
    let pod = Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{name}-")),
            labels: given.labels,
            annotations: given.annotations,
            ..Default::default()
        },
        spec: template.spec.clone(),
        status: None,
    };
    match create(client, policy.namespace(), &pod).await? {
        Ok(pod) => Ok(match pods::facts(&pod).and_then(|pod| pod.sidecar) {
            Some(sidecar) => Verdict::Injected { policy: sidecar.policy, injection: sidecar.injection },
            None => Verdict::Plain,
        }),
        Err(sentence) => Ok(Verdict::Refused(sentence)),
    }
}

/// Whether the namespace's Pod Security level forbids the container that redirects ports: the sentence, if so.
pub(super) async fn redirect_is_forbidden(client: &Client, namespace: &str) -> Result<Option<String>, kube::Error> {
    let restricted = json!({
        "allowPrivilegeEscalation": false,
        "runAsNonRoot": true,
        "runAsUser": 65532,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    let pod = json!({
        "metadata": {"generateName": "cloakroom-dry-run-"},
        "spec": {
            "automountServiceAccountToken": false,
            "containers": [{"name": "app", "image": "none", "securityContext": restricted}],
            "initContainers": [{"name": "intercept", "image": "none", "securityContext": {
                "allowPrivilegeEscalation": false,
                "runAsNonRoot": false,
                "runAsUser": 0,
                "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]},
                "seccompProfile": {"type": "RuntimeDefault"},
            }}],
        },
    });
    let pod: Pod = serde_json::from_value(pod).unwrap_or_default();
    let refusal = create(client, namespace, &pod).await?.err();
    // Quotas and the like may refuse it too; they are no reason against this interception.
    Ok(refusal.filter(|sentence| sentence.contains("violates PodSecurity")))
}

/// The outer error is one of transport or rights, to be tried again; the inner one is the API server's judgement on the pod.
async fn create(client: &Client, namespace: &str, pod: &Pod) -> Result<Result<Pod, String>, kube::Error> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let dry_run = PostParams { dry_run: true, ..Default::default() };
    match pods.create(&dry_run, pod).await {
        Ok(pod) => Ok(Ok(pod)),
        Err(kube::Error::Api(status)) if [400, 403, 422].contains(&status.code) => Ok(Err(status.message.clone())),
        Err(error) => Err(error),
    }
}
