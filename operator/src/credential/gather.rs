//! The Secret as it is: ours, somebody else's, or not there yet.

use std::collections::BTreeMap;

use cloakroom_protocol::credential::{CredentialRef, EarlierSecret};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::{Api, ResourceExt};

use super::{Credential, Error, secret_name};
use crate::context::Context;
use crate::names;

#[derive(Debug)]
pub(super) enum Found<P> {
    /// Somebody made a Secret of that name. It is not written over, whoever it was.
    Anothers,
    Ours(Option<Kept<P>>),
}

/// What our Secret says.
#[derive(Debug)]
pub(super) struct Kept<P> {
    /// None: somebody has spoilt it.
    pub plain: Option<P>,
    pub made: Option<Timestamp>,
    /// What `spec.rotation.trigger` said when it was made.
    pub trigger: Option<String>,
    pub before: Option<EarlierSecret>,
    /// All of its entries, to be compared with what they should be.
    pub data: BTreeMap<String, ByteString>,
    /// Of the Secret: whoever writes must have read the latest.
    pub version: Option<String>,
}

pub(super) async fn secret<K: Credential>(
    resource: &K,
    of: &CredentialRef,
    context: &Context,
) -> Result<Found<K::Plain>, Error> {
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), of.namespace());
    Ok(match secrets.get_opt(&secret_name::<K>(of)).await? {
        Some(secret) => read(resource, &secret),
        None => Found::Ours(None),
    })
}

pub(super) fn read<K: Credential>(resource: &K, secret: &Secret) -> Found<K::Plain> {
    let uid = resource.meta().uid.as_deref();
    let ours = uid.is_some() && secret.owner_references().iter().any(|owner| Some(owner.uid.as_str()) == uid);
    if !ours {
        return Found::Anothers;
    }
    let says = |annotation: &str| secret.annotations().get(annotation).cloned();
    let data = secret.data.clone().unwrap_or_default();
    Found::Ours(Some(Kept {
        plain: resource.read(&data),
        made: says(names::MADE_ANNOTATION).and_then(|text| text.parse().ok()),
        trigger: says(names::TRIGGER_ANNOTATION),
        before: says(names::BEFORE_ANNOTATION).and_then(|text| text.parse().ok()),
        data,
        version: secret.resource_version(),
    }))
}
