//! An AuthPolicy's way: gather → parse → plan → apply → report. What needs no cluster (read, parse, plan) is here for everyone; the rest
//! is the controller's.

mod apply;
mod conflict;
mod dry_run;
mod gather;
mod observe;
pub mod parse;
pub mod plan;
mod pods;
pub mod read;
mod report;
mod retire;
mod upgrade;

use std::sync::Arc;
use std::time::Duration;

use cloakroom_crds::AuthPolicy;
use cloakroom_crds::status::Reason;
use cloakroom_protocol::policy_ref::PolicyRef;
use cloakroom_protocol::sidecar_config::AuthService;
use kube::ResourceExt;
use kube::runtime::controller::Action;

use crate::args::Args;
use crate::certificates::CertificateError;
use crate::context::Context;
use crate::injection::{self, Injection};
use crate::names::Names;

pub(crate) use gather::settings;
pub use parse::{Policy, Rejected};
pub use plan::Compiled;

/// A policy that is in force is looked at so often: bypasses are found, and registrations survive a loss of Redis.
const CALM: Duration = Duration::from_secs(10);
/// While something is under way.
const BUSY: Duration = Duration::from_secs(2);
/// Nothing is in force, and only its own or its namespace's change could help.
const REFUSED: Duration = Duration::from_secs(30);

/// No policies here: they could lock the cluster out of its own components.
const FORBIDDEN_NAMESPACES: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];

/// What policies do not say themselves: the installation they are compiled for.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub auth_service: AuthService,
}

/// The one way from an AuthPolicy to what sidecar and auth service are told.
pub fn compile(policy: &AuthPolicy, settings: &Settings) -> Result<Compiled, Rejected> {
    Ok(plan::plan(parse::parse(policy)?, settings))
}

/// What is to be, all of it known.
struct Planned {
    names: Names,
    compiled: Compiled,
    injection: Injection,
    /// The older policy that protects some of the same pods.
    conflict: Option<PolicyRef>,
    older: Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector>,
}

/// Why a policy is not put into force, as its status says it.
struct Refusal {
    reason: Reason,
    sentence: String,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the API server: {0}")]
    Api(#[from] kube::Error),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error("the auth service: {0}")]
    AuthService(#[from] crate::registration::RegistrationError),
    #[error("an AuthPolicy without a proper name: {0}")]
    Name(#[from] cloakroom_protocol::policy_ref::InvalidPolicyRef),
}

pub async fn reconcile(policy: Arc<AuthPolicy>, context: Arc<Context>) -> Result<Action, Error> {
    let reference = PolicyRef::new(&policy.namespace().unwrap_or_default(), &policy.name_any())?;
    let names = Names::of(&reference);
    if policy.metadata.deletion_timestamp.is_some() {
        return retire::retire(&policy, &reference, &names, &context).await;
    }
    let gathered = gather::gather(&policy, &names, &context).await?;
    let planned = match plan(&policy, &gathered, &context) {
        Ok(planned) => planned,
        Err(refusal) => return refused(&policy, &refusal, &context).await,
    };
    let applied = match apply::apply(&policy, &planned, &gathered, &context).await? {
        Ok(applied) => applied,
        Err(refusal) => return refused(&policy, &refusal, &context).await,
    };
    let observed = observe::observe(&policy, &planned, &gathered, &applied, &context).await?;
    report::report(&policy, &observed, &context).await?;
    Ok(Action::requeue(if observed.is_calm() { CALM } else { BUSY }))
}

fn plan(policy: &AuthPolicy, gathered: &gather::Gathered, context: &Context) -> Result<Planned, Refusal> {
    let namespace = policy.namespace().unwrap_or_default();
    if is_forbidden(&namespace, &context.args) {
        let sentence = format!("no AuthPolicy in {namespace}: it could lock the cluster, or Cloakroom itself, out");
        return Err(Refusal { reason: Reason::ForbiddenNamespace, sentence });
    }
    let compiled = compile(policy, &gathered.settings)
        .map_err(|rejected| Refusal { reason: Reason::Invalid, sentence: rejected.to_string() })?;
    let older = conflict::older(policy, &gathered.policies);
    let conflict = conflict::winner(&compiled.policy.selector, &older, gathered);
    let older: Vec<_> = older.into_iter().map(|(_, selector)| selector).collect();
    Ok(Planned {
        names: Names::of(&compiled.policy.reference),
        injection: injection::plan(&compiled.policy, &older, &context.sidecar()),
        compiled,
        conflict,
        older,
    })
}

/// Nothing is protected there.
pub(crate) fn is_forbidden(namespace: &str, args: &Args) -> bool {
    FORBIDDEN_NAMESPACES.contains(&namespace) || namespace == args.namespace
}

/// What was in force before stays so: a policy that is edited into nonsense does not open its pods.
async fn refused(policy: &AuthPolicy, refusal: &Refusal, context: &Context) -> Result<Action, Error> {
    report::report_refusal(policy, refusal, context).await?;
    Ok(Action::requeue(REFUSED))
}
