//! All writes that put a policy into force, in an order in which no moment is worse than the one before: what a pod mounts is there before
//! pods are injected.

use std::collections::BTreeMap;
use std::fmt::Debug;

use cloakroom_crds::AuthPolicy;
use cloakroom_crds::status::Reason;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::api::{ObjectMeta, Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use rand::Rng;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::gather::Gathered;
use super::{Error, Planned, Refusal, dry_run};
use crate::context::Context;
use crate::injection::selector::matches;
use crate::injection::{config_key, proof_key};
use crate::names;
use crate::registration::RegistrationError;

/// A registration that was acknowledged is sent again after this long, in case the auth service lost its Redis.
const REGISTER_AGAIN: i64 = 10;

pub(super) struct Applied {
    pub(super) proof_key: Vec<u8>,
    /// Why the auth service does not know of the policy yet.
    pub(super) unregistered: Option<String>,
}

pub(super) async fn apply(
    policy: &AuthPolicy,
    planned: &Planned,
    gathered: &Gathered,
    context: &Context,
) -> Result<Result<Applied, Refusal>, Error> {
    let namespace = planned.compiled.policy.reference.namespace();
    if planned.compiled.policy.interception == cloakroom_crds::Interception::Redirect
        && let Some(sentence) = dry_run::redirect_is_forbidden(&context.client, namespace).await?
    {
        return Ok(Err(pod_security(&sentence)));
    }
    let unregistered = match register(planned, gathered, context).await {
        Ok(()) => None,
        Err(RegistrationError::Refused(sentence)) => {
            return Ok(Err(Refusal { reason: Reason::RegistrationRefused, sentence }));
        }
        Err(error) => Some(error.to_string()),
    };
    keep_until_retired(policy, context).await?;
    let proof_key = match &gathered.proof_key {
        Some(key) => key.clone(),
        None => make_proof_key(policy, planned, context).await?,
    };
    write_config(policy, planned, context).await?;
    write_injection(planned, context).await?;
    nudge(planned, gathered, context).await?;
    Ok(Ok(Applied { proof_key, unregistered }))
}

fn pod_security(sentence: &str) -> Refusal {
    let detail = sentence.split_once("violates PodSecurity").map_or(sentence, |(_, detail)| detail.trim());
    let sentence = format!(
        "interception: Redirect needs NET_ADMIN in an init container, and the namespace's Pod Security level forbids it (violates {detail}): \
         use interception: Loopback, or label the namespace pod-security.kubernetes.io/enforce=privileged"
    );
    Refusal { reason: Reason::PodSecurity, sentence }
}

async fn register(planned: &Planned, gathered: &Gathered, context: &Context) -> Result<(), RegistrationError> {
    let registration = &planned.compiled.registration;
    let name = registration.policy.to_string();
    let now = context.now();
    let fresh = context.memory().registered.get(&name).is_some_and(|(revision, at)| {
        *revision == registration.revision && now.as_second() - at.as_second() < REGISTER_AGAIN
    });
    if fresh {
        return Ok(());
    }
    context.auth_service.register(&gathered.settings.auth_service, registration).await?;
    context.memory().registered.insert(name, (registration.revision.clone(), now));
    Ok(())
}

/// With our finalizer, deletion waits until the pods are rolled back.
async fn keep_until_retired(policy: &AuthPolicy, context: &Context) -> Result<(), Error> {
    if policy.finalizers().iter().any(|finalizer| finalizer == names::FINALIZER) {
        return Ok(());
    }
    let policies: Api<AuthPolicy> = Api::namespaced(context.client.clone(), &policy.namespace().unwrap_or_default());
    let finalizers: Vec<_> = policy.finalizers().iter().cloned().chain([names::FINALIZER.to_owned()]).collect();
    // With the version that we saw: two writers of this list must not undo each other.
    let patch = json!({"metadata": {"finalizers": finalizers, "resourceVersion": policy.resource_version()}});
    policies.patch(&policy.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

/// Made once. Only the sidecar mounts it.
async fn make_proof_key(policy: &AuthPolicy, planned: &Planned, context: &Context) -> Result<Vec<u8>, Error> {
    let mut key = vec![0; 32];
    context.random.lock().unwrap_or_else(std::sync::PoisonError::into_inner).fill_bytes(&mut key);
    let name = &planned.names.proof_secret;
    let secret = Secret {
        metadata: metadata(policy, name),
        data: Some([(proof_key().to_owned(), ByteString(key.clone()))].into()),
        ..Default::default()
    };
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), planned.compiled.policy.reference.namespace());
    secrets.patch(name, &PatchParams::apply(names::FIELD_MANAGER).force(), &Patch::Apply(&secret)).await?;
    Ok(key)
}

async fn write_config(policy: &AuthPolicy, planned: &Planned, context: &Context) -> Result<(), Error> {
    let name = &planned.names.config_map;
    // A struct of strings, numbers and maps with string keys: nothing in it can fail to serialise.
    let json = serde_json::to_string_pretty(&planned.compiled.config).unwrap_or_default();
    let data: BTreeMap<String, String> = [(config_key().to_owned(), json)].into();
    let config_maps: Api<ConfigMap> =
        Api::namespaced(context.client.clone(), planned.compiled.policy.reference.namespace());
    if config_maps.get_opt(name).await?.is_some_and(|map| map.data.as_ref() == Some(&data)) {
        return Ok(());
    }
    let map = ConfigMap { metadata: metadata(policy, name), data: Some(data), ..Default::default() };
    config_maps.patch(name, &PatchParams::apply(names::FIELD_MANAGER).force(), &Patch::Apply(&map)).await?;
    tracing::info!(policy = %planned.compiled.policy.reference, revision = planned.compiled.config.revision, "wrote the configuration");
    Ok(())
}

/// Owned by the policy, so that nothing remains even if we never see its end.
fn metadata(policy: &AuthPolicy, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        labels: Some([(names::MANAGED_BY_LABEL.to_owned(), names::MANAGED_BY.to_owned())].into()),
        owner_references: policy.controller_owner_ref(&()).map(|owner| vec![owner]),
        ..Default::default()
    }
}

async fn write_injection(planned: &Planned, context: &Context) -> Result<(), Error> {
    let injection = &planned.injection;
    // The mutation first: where both change, a moment in which pods are injected anew but judged as before refuses some, and they are
    // created again; the other way round, it would be the same for longer.
    converge(&injection.mutating, context).await?;
    converge(&injection.mutating_binding, context).await?;
    converge(&injection.validating, context).await?;
    converge(&injection.validating_binding, context).await
}

/// Writes a cluster-scoped object unless it is as we wrote it last.
async fn converge<K>(object: &K, context: &Context) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
{
    let name = object.name_any();
    let key = format!("{} {name}", K::kind(&()));
    let wanted = names::digest(object);
    let api: Api<K> = Api::all(context.client.clone());
    if let Some(live) = api.get_opt(&name).await? {
        let written = context.memory().written.get(&key).copied();
        if live.annotations().get(names::DIGEST_ANNOTATION) == Some(&wanted)
            && written == Some(live.meta().generation.unwrap_or_default())
        {
            return Ok(());
        }
    }
    let mut object = object.clone();
    object.annotations_mut().insert(names::DIGEST_ANNOTATION.to_owned(), wanted);
    let written = api.patch(&name, &PatchParams::apply(names::FIELD_MANAGER).force(), &Patch::Apply(&object)).await?;
    context.memory().written.insert(key, written.meta().generation.unwrap_or_default());
    Ok(())
}

/// Any change of a pod makes kubelet refresh its volumes at once, instead of within a minute.
async fn nudge(planned: &Planned, gathered: &Gathered, context: &Context) -> Result<(), Error> {
    let policy = &planned.compiled.policy;
    let revision = &planned.compiled.config.revision;
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), policy.reference.namespace());
    let name = policy.reference.to_string();
    let ours = gathered.pods.iter().filter(|pod| {
        pod.sidecar.as_ref().is_some_and(|sidecar| sidecar.policy == name)
            && matches(&policy.selector, &pod.labels)
            && pod.revision.as_deref() != Some(revision)
    });
    for pod in ours {
        let patch = json!({"metadata": {"annotations": {names::REVISION_ANNOTATION: revision}}});
        match pods.patch(&pod.name, &PatchParams::default(), &Patch::Merge(patch)).await {
            // It has gone meanwhile.
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
