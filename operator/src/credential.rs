//! A credential's way, whichever kind asks for it: gather → plan (pure) → write the Secret → register its hash → report.
//!
//! The operator makes the secret, since only so can it be registered again as it is when the auth service has lost its store; and it writes it
//! before it registers it, since what nobody holds is of no use to anybody.

mod api_key;
mod gather;
mod oauth_client;
mod plan;
mod report;
mod retire;
#[cfg(test)]
mod tests;
mod write;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use cloakroom_crds::status::Reason;
use cloakroom_crds::{CredentialStatus, Rotation};
use cloakroom_protocol::credential::{CredentialRef, EarlierSecret};
use cloakroom_protocol::token::SecretHash;
use k8s_openapi::ByteString;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};
use rand::rngs::StdRng;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::context::Context;
use crate::names;
use crate::policy;
use crate::registration::RegistrationError;
use plan::Planned;

/// So often each is looked at: a Secret that was deleted is made anew, and registrations survive a loss of the auth service's store.
const CALM: Duration = Duration::from_secs(10);

/// A kind of resource that asks for a credential.
pub(crate) trait Credential:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// What the Secret holds that nobody else has; its `Debug` does not show it.
    type Plain: Clone + Debug + PartialEq + Send + Sync;
    type Registration: Serialize + Send + Sync;

    /// Where the auth service takes registrations.
    const PATH: &'static str;
    /// What its Secret is called after.
    const SUFFIX: &'static str;
    fn status(&self) -> Option<&CredentialStatus>;
    fn rotation(&self) -> &Rotation;
    fn expires(&self) -> Option<Timestamp>;

    /// A new secret; one that takes the place of another may have something in common with it.
    fn make(&self, before: Option<&Self::Plain>, rng: &mut StdRng) -> Self::Plain;
    /// Out of the Secret's entries; `None`: somebody has spoilt them.
    fn read(&self, entries: &BTreeMap<String, ByteString>) -> Option<Self::Plain>;
    /// `None`: there is no secret that could be good for a while longer.
    fn hash(plain: &Self::Plain) -> Option<SecretHash>;
    /// What names it in logs.
    fn id(of: &CredentialRef, plain: &Self::Plain) -> String;
    fn registration(
        &self,
        of: &CredentialRef,
        plain: &Self::Plain,
        before: Option<EarlierSecret>,
    ) -> Self::Registration;
    /// What its Secret is to hold.
    fn entries(of: &CredentialRef, plain: &Self::Plain, issuer: &str) -> BTreeMap<&'static str, String>;
    /// What to do for a new one once an administrator has revoked it.
    fn remedy(secret: &str) -> String;
}

pub(crate) use api_key::ApiKey;
pub(crate) use oauth_client::OAuthClient;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the API server: {0}")]
    Api(#[from] kube::Error),
    #[error("what the registration needs to know: {0}")]
    Settings(#[from] policy::Error),
    #[error("the auth service: {0}")]
    AuthService(#[from] RegistrationError),
    #[error("a credential without a proper name: {0}")]
    Name(#[from] cloakroom_protocol::credential::InvalidCredentialRef),
}

/// How far it came.
enum Outcome {
    Registered,
    /// Not put into force, and why.
    Refused {
        reason: Reason,
        sentence: String,
    },
    Revoked,
    Expired(Timestamp),
    /// It will be good once the auth service answers.
    Unreachable(String),
}

/// What became of a credential.
struct Done<P> {
    outcome: Outcome,
    /// What its Secret holds.
    planned: Option<Planned<P>>,
}

pub(crate) async fn reconcile<K: Credential>(resource: Arc<K>, context: Arc<Context>) -> Result<Action, Error> {
    let of = CredentialRef::new(&resource.namespace().unwrap_or_default(), &resource.name_any())?;
    if resource.meta().deletion_timestamp.is_some() {
        return retire::retire(resource.as_ref(), &of, &context).await;
    }
    let done = put_into_force(resource.as_ref(), &of, &context).await?;
    report::report(resource.as_ref(), &of, &done, &context).await?;
    Ok(Action::requeue(CALM))
}

async fn put_into_force<K: Credential>(
    resource: &K,
    of: &CredentialRef,
    context: &Context,
) -> Result<Done<K::Plain>, Error> {
    if policy::is_forbidden(of.namespace(), &context.args) {
        let sentence = format!("nothing is protected in {}, so that no credential counts there", of.namespace());
        return Ok(refused(Reason::ForbiddenNamespace, sentence));
    }
    let found = gather::secret(resource, of, context).await?;
    let gather::Found::Ours(kept) = found else {
        let name = secret_name::<K>(of);
        let sentence =
            format!("Secret {name} is there already and not this resource's: delete it, or use another name");
        return Ok(refused(Reason::SecretTaken, sentence));
    };
    let planned = {
        let mut random = context.random.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match plan::plan(resource, of, kept, &context.args.issuer, context.now(), &mut random) {
            Ok(planned) => planned,
            Err(rejected) => return Ok(refused(Reason::Invalid, rejected.to_string())),
        }
    };
    write::finalizer(resource, context).await?;
    write::secret(resource, of, &planned, context).await?;
    let outcome = match resource.expires().filter(|end| *end <= context.now()) {
        Some(end) => Outcome::Expired(end),
        None => register(resource, of, &planned, context).await?,
    };
    Ok(Done { outcome, planned: Some(planned) })
}

fn refused<P>(reason: Reason, sentence: String) -> Done<P> {
    Done { outcome: Outcome::Refused { reason, sentence }, planned: None }
}

/// Sent again and again, in case the auth service has lost its store.
async fn register<K: Credential>(
    resource: &K,
    of: &CredentialRef,
    planned: &Planned<K::Plain>,
    context: &Context,
) -> Result<Outcome, Error> {
    let registration = resource.registration(of, &planned.plain, planned.before_at(context.now()));
    let (key, revision) = (memory_key::<K>(of), names::digest(&registration));
    let target = policy::settings(context).await?.auth_service;
    let path = format!("{}/{}/{}", K::PATH, of.namespace(), of.name());
    match context.auth_service.put(&target, &path, &registration).await {
        Ok(()) => {
            context.memory().registered.insert(key, (revision, context.now()));
            Ok(Outcome::Registered)
        }
        Err(RegistrationError::Refused(sentence)) => {
            Ok(Outcome::Refused { reason: Reason::RegistrationRefused, sentence })
        }
        Err(RegistrationError::Gone(_)) => Ok(Outcome::Revoked),
        Err(error) => {
            // What it has acknowledged before stays good, whether it answers at the moment or not.
            let acknowledged = context.memory().registered.get(&key).is_some_and(|(known, _)| *known == revision);
            tracing::warn!(credential = %of, %error, "not acknowledged; it is repeated");
            Ok(if acknowledged { Outcome::Registered } else { Outcome::Unreachable(error.to_string()) })
        }
    }
}

fn secret_name<K: Credential>(of: &CredentialRef) -> String {
    names::credential_secret(of.name(), K::SUFFIX)
}

/// What the operator remembers it under.
pub(crate) fn memory_key<K: Credential>(of: &CredentialRef) -> String {
    format!("{} {of}", K::SUFFIX)
}
