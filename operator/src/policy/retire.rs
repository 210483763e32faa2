//! A policy's end: the API server stops injecting, pods are rolled back, and nothing remains.

use cloakroom_crds::{AuthPolicy, Rollout};
use cloakroom_protocol::policy_ref::PolicyRef;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding,
};
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;
use std::fmt::Debug;

use super::gather::{self, Gathered};
use super::observe::{self, Wanted};
use super::pods::PodFacts;
use super::{BUSY, Error, conflict};
use crate::context::Context;
use crate::names::{self, Names};
use crate::telemetry::PolicyLabel;

/// So long the auth service may be down before a policy goes without its leave.
const WAIT_FOR_AUTH_SERVICE: i64 = 60;

pub(super) async fn retire(
    policy: &AuthPolicy,
    reference: &PolicyRef,
    names: &Names,
    context: &Context,
) -> Result<Action, Error> {
    if !policy.finalizers().iter().any(|finalizer| finalizer == names::FINALIZER) {
        return Ok(Action::await_change());
    }
    remove_injection(names, context).await?;
    let gathered = gather::gather(policy, names, context).await?;
    if !gathered.namespace_is_leaving && !is_rolled_back(policy, reference, &gathered, context).await? {
        return Ok(Action::requeue(BUSY));
    }
    if let Err(error) = context.auth_service.remove(&gathered.settings.auth_service, reference).await {
        let since = policy.metadata.deletion_timestamp.as_ref().map_or(0, |time| time.0.as_second());
        if context.now().as_second() - since < WAIT_FOR_AUTH_SERVICE {
            return Err(error.into());
        }
        tracing::warn!(policy = %reference, %error, "gone without the auth service's leave");
    }
    forget(reference, names, context);
    // Configuration and proof key are owned by the policy and go with it.
    let finalizers: Vec<_> = policy.finalizers().iter().filter(|finalizer| *finalizer != names::FINALIZER).collect();
    let patch = json!({"metadata": {"finalizers": finalizers, "resourceVersion": policy.resource_version()}});
    let policies: Api<AuthPolicy> = Api::namespaced(context.client.clone(), reference.namespace());
    match policies.patch(reference.name(), &PatchParams::default(), &Patch::Merge(patch)).await {
        Ok(_) => tracing::info!(policy = %reference, "retired"),
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => return Err(error.into()),
    }
    Ok(Action::await_change())
}

/// The safety net goes first: without injection but with it, every new pod would be refused.
async fn remove_injection(names: &Names, context: &Context) -> Result<(), Error> {
    let client = || context.client.clone();
    delete::<ValidatingAdmissionPolicyBinding>(Api::all(client()), &names.admission).await?;
    delete::<ValidatingAdmissionPolicy>(Api::all(client()), &names.admission).await?;
    delete::<MutatingAdmissionPolicyBinding>(Api::all(client()), &names.admission).await?;
    delete::<MutatingAdmissionPolicy>(Api::all(client()), &names.admission).await?;
    Ok(())
}

/// Whether no pod has this policy's sidecar any more, but for those that nothing restarts. Pods that are leaving still serve.
async fn is_rolled_back(
    policy: &AuthPolicy,
    reference: &PolicyRef,
    gathered: &Gathered,
    context: &Context,
) -> Result<bool, Error> {
    let name = reference.to_string();
    let ours: Vec<&PodFacts> = gathered
        .pods
        .iter()
        .filter(|pod| pod.sidecar.as_ref().is_some_and(|sidecar| sidecar.policy == name))
        .filter(|pod| pod.leaving || gathered.workload_of(pod).is_ok())
        .collect();
    let living: Vec<&PodFacts> = ours
        .iter()
        .filter(|pod| !pod.leaving && !conflict::is_anothers(&pod.labels, policy, &gathered.policies))
        .copied()
        .collect();
    let manual = policy.spec.rollout == Rollout::Manual;
    observe::restart(reference, &living, &Wanted::Free { policy: name }, manual, gathered, context).await?;
    Ok(ours.is_empty())
}

async fn delete<K>(api: Api<K>, name: &str) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    match api.delete(name, &DeleteParams::default()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error),
    }
}

fn forget(reference: &PolicyRef, names: &Names, context: &Context) {
    let mut memory = context.memory();
    memory.registered.remove(&reference.to_string());
    memory.written.retain(|key, _| key.split(' ').nth(1) != Some(&names.admission));
    let label = PolicyLabel { namespace: reference.namespace().to_owned(), policy: reference.name().to_owned() };
    context.metrics.matched_pods.remove(&label);
    context.metrics.protected_pods.remove(&label);
}
