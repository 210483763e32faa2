//! A credential's end. It is not let go before the auth service has ended it: what is forgotten while it is good would stay so.

use cloakroom_protocol::credential::CredentialRef;
use kube::ResourceExt;
use kube::runtime::controller::Action;

use super::write::set_finalizers;
use super::{Credential, Done, Error, Outcome, memory_key, report};
use crate::context::Context;
use crate::names;
use crate::policy;

pub(super) async fn retire<K: Credential>(
    resource: &K,
    of: &CredentialRef,
    context: &Context,
) -> Result<Action, Error> {
    if !resource.finalizers().iter().any(|finalizer| finalizer == names::CREDENTIAL_FINALIZER) {
        return Ok(Action::await_change());
    }
    let target = policy::settings(context).await?.auth_service;
    let path = format!("{}/{}/{}", K::PATH, of.namespace(), of.name());
    if let Err(error) = context.auth_service.delete(&target, &path).await {
        let done = Done { outcome: Outcome::Unreachable(format!("it cannot be ended: {error}")), planned: None };
        report::report(resource, of, &done, context).await?;
        return Err(error.into());
    }
    context.memory().registered.remove(&memory_key::<K>(of));
    // The Secret is owned by the resource and goes with it.
    let others = resource.finalizers().iter().filter(|finalizer| *finalizer != names::CREDENTIAL_FINALIZER);
    match set_finalizers(resource, others.cloned().collect(), context).await {
        Ok(()) => tracing::info!(credential = %of, kind = K::SUFFIX, "ended"),
        Err(Error::Api(kube::Error::Api(status))) if status.code == 404 => {}
        Err(error) => return Err(error),
    }
    Ok(Action::await_change())
}
