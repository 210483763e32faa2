//! The writes, each such that of two writers one wins and the other reads again.

use cloakroom_protocol::credential::CredentialRef;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::plan::{Planned, Write};
use super::{Credential, Error, secret_name};
use crate::context::Context;
use crate::names;

/// With our finalizer, deletion waits until the credential is worth nothing any more.
pub(super) async fn finalizer<K: Credential>(resource: &K, context: &Context) -> Result<(), Error> {
    if resource.finalizers().iter().any(|finalizer| finalizer == names::CREDENTIAL_FINALIZER) {
        return Ok(());
    }
    let finalizers = resource.finalizers().iter().cloned().chain([names::CREDENTIAL_FINALIZER.to_owned()]).collect();
    set_finalizers(resource, finalizers, context).await
}

pub(super) async fn set_finalizers<K: Credential>(
    resource: &K,
    finalizers: Vec<String>,
    context: &Context,
) -> Result<(), Error> {
    let resources: Api<K> = Api::namespaced(context.client.clone(), &resource.namespace().unwrap_or_default());
    // With the version that we saw: two writers of this list must not undo each other.
    let patch = json!({"metadata": {"finalizers": finalizers, "resourceVersion": resource.resource_version()}});
    resources.patch(&resource.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

pub(super) async fn secret<K: Credential>(
    resource: &K,
    of: &CredentialRef,
    planned: &Planned<K::Plain>,
    context: &Context,
) -> Result<(), Error> {
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), of.namespace());
    let manager = Some(names::FIELD_MANAGER.to_owned());
    match &planned.write {
        Write::Nothing => return Ok(()),
        Write::Create => {
            let params = PostParams { field_manager: manager, ..PostParams::default() };
            secrets.create(&params, &as_secret(resource, of, planned)).await?;
        }
        Write::Replace(version) => {
            let annotations: serde_json::Map<_, _> =
                annotations(planned).into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
            let patch = json!({
                "metadata": {"resourceVersion": version, "annotations": annotations},
                "data": planned.entries,
            });
            let params = PatchParams { field_manager: manager, ..PatchParams::default() };
            secrets.patch(&secret_name::<K>(of), &params, &Patch::Merge(patch)).await?;
        }
    }
    tracing::info!(credential = %of, kind = K::SUFFIX, id = K::id(of, &planned.plain), "wrote a secret");
    Ok(())
}

pub(super) fn as_secret<K: Credential>(resource: &K, of: &CredentialRef, planned: &Planned<K::Plain>) -> Secret {
    let annotations = annotations(planned).into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Secret {
        metadata: ObjectMeta {
            name: Some(secret_name::<K>(of)),
            labels: Some([(names::MANAGED_BY_LABEL.to_owned(), names::MANAGED_BY.to_owned())].into()),
            annotations: Some(annotations.collect()),
            // Nothing remains of it when its resource goes.
            owner_references: resource.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        data: Some(planned.entries.clone()),
        ..Secret::default()
    }
}

/// `None`: one of an earlier round is taken away.
fn annotations<P>(planned: &Planned<P>) -> [(&'static str, Option<String>); 3] {
    [
        (names::MADE_ANNOTATION, Some(planned.made.to_string())),
        (names::TRIGGER_ANNOTATION, Some(planned.trigger.clone())),
        (names::BEFORE_ANNOTATION, planned.before.as_ref().map(ToString::to_string)),
    ]
}
