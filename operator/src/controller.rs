//! Watches and triggers. Everything a policy depends on leads to its reconciliation; a credential is looked at again and again.

use std::fmt::Debug;
use std::future::{Future, Ready, ready};
use std::sync::Arc;
use std::time::Duration;

use cloakroom_crds::AuthPolicy;
use futures::StreamExt;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::api::{DeleteParams, ListParams};
use kube::runtime::controller::{Action, Config, Controller, Error};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use crate::context::Context;
use crate::credential::{self, ApiKey, Credential, OAuthClient};
use crate::names;
use crate::policy;
use crate::telemetry::Outcome;

/// Many events come in bursts: a rollout, a list of pods.
const DEBOUNCE: Duration = Duration::from_millis(100);
const SWEEP_EVERY: Duration = Duration::from_secs(300);
const CERTIFICATES_EVERY: Duration = Duration::from_secs(3600);
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// Reconciles until `end`, as the leader.
pub(crate) async fn run<F>(context: Arc<Context>, end: impl Fn() -> F)
where
    F: Future<Output = ()> + Send + Sync + 'static,
{
    tokio::join!(
        policies(context.clone(), end()),
        credentials::<ApiKey>(context.clone(), end()),
        credentials::<OAuthClient>(context, end())
    );
}

async fn policies(context: Arc<Context>, end: impl Future<Output = ()> + Send + Sync + 'static) {
    let client = || context.client.clone();
    let policies: Api<AuthPolicy> = Api::all(client());
    let ours = watcher::Config::default().labels(&format!("{}={}", names::MANAGED_BY_LABEL, names::MANAGED_BY));
    let controller = Controller::new(policies, watcher::Config::default());
    let store = controller.store();
    let (by_pod, by_namespace, by_neighbour) = (store.clone(), store.clone(), store);
    let controller = controller
        .with_config(Config::default().debounce(DEBOUNCE).concurrency(8))
        .owns(Api::<ConfigMap>::all(client()), ours.clone())
        .watches(Api::<Pod>::all(client()), watcher::Config::default(), move |pod| {
            policies_of(&by_pod, pod.namespace().as_deref())
        })
        .watches(Api::<Namespace>::all(client()), watcher::Config::default(), move |namespace| {
            policies_of(&by_namespace, Some(&namespace.name_any()))
        })
        .watches(Api::<AuthPolicy>::all(client()), watcher::Config::default(), move |policy| {
            // Whoever comes after it may win or lose by its change.
            let age = |policy: &AuthPolicy| policy.metadata.creation_timestamp.clone().map(|time| time.0);
            let (namespace, changed) = (policy.namespace(), age(&policy));
            let mut neighbours = policies_of(&by_neighbour, namespace.as_deref());
            neighbours.retain(|other| by_neighbour.get(other).is_some_and(|other| age(&other) >= changed));
            neighbours
        })
        .watches(Api::<MutatingAdmissionPolicy>::all(client()), ours.clone(), |object| of(&object))
        .watches(Api::<MutatingAdmissionPolicyBinding>::all(client()), ours.clone(), |object| of(&object))
        .watches(Api::<ValidatingAdmissionPolicy>::all(client()), ours.clone(), |object| of(&object))
        .watches(Api::<ValidatingAdmissionPolicyBinding>::all(client()), ours, |object| of(&object))
        .graceful_shutdown_on(end);
    let housekeeping = tokio::spawn(housekeeping(context.clone()));
    let failures = context.clone();
    controller.run(reconcile, retry, context).for_each(|result| count(&failures, &result)).await;
    housekeeping.abort();
}

/// Nothing but the resources themselves is watched: Secrets are neither listed nor watched, but read by their names.
async fn credentials<K: Credential>(context: Arc<Context>, end: impl Future<Output = ()> + Send + Sync + 'static) {
    let failures = context.clone();
    Controller::new(Api::<K>::all(context.client.clone()), watcher::Config::default())
        .with_config(Config::default().debounce(DEBOUNCE).concurrency(8))
        .graceful_shutdown_on(end)
        .run(reconcile_credential, retry_credential, context)
        .for_each(|result| count(&failures, &result))
        .await;
}

fn count<T, E: std::error::Error + 'static>(
    context: &Context,
    result: &Result<T, Error<E, watcher::Error>>,
) -> Ready<()> {
    let outcome = match result {
        // Retired meanwhile.
        Ok(_) | Err(Error::ObjectNotFound(_)) => "done",
        Err(error) => {
            tracing::warn!(%error, "a reconciliation failed; it is repeated");
            "failed"
        }
    };
    context.metrics.reconciliations.get_or_create(&Outcome { outcome }).inc();
    ready(())
}

async fn reconcile_credential<K: Credential>(
    resource: Arc<K>,
    context: Arc<Context>,
) -> Result<Action, credential::Error> {
    let key = key_of_credential(resource.as_ref());
    let action = credential::reconcile(resource, context.clone()).await?;
    context.memory().failures.remove(&key);
    Ok(action)
}

#[expect(clippy::needless_pass_by_value, reason = "the controller calls it so")]
fn retry_credential<K: Credential>(resource: Arc<K>, _: &credential::Error, context: Arc<Context>) -> Action {
    after_failure(key_of_credential(resource.as_ref()), &context)
}

fn key_of_credential<K: Credential>(resource: &K) -> String {
    format!("{} {}/{}", K::SUFFIX, resource.namespace().unwrap_or_default(), resource.name_any())
}

async fn reconcile(policy: Arc<AuthPolicy>, context: Arc<Context>) -> Result<Action, policy::Error> {
    let key = key(&policy);
    let action = policy::reconcile(policy, context.clone()).await?;
    context.memory().failures.remove(&key);
    Ok(action)
}

#[expect(clippy::needless_pass_by_value, reason = "the controller calls it so")]
fn retry(policy: Arc<AuthPolicy>, _: &policy::Error, context: Arc<Context>) -> Action {
    after_failure(key(&policy), &context)
}

/// Twice as long after each failure in a row.
fn after_failure(key: String, context: &Context) -> Action {
    let mut memory = context.memory();
    let failures = memory.failures.entry(key).or_insert(0);
    let wait = FIRST_RETRY.saturating_mul(1 << (*failures).min(6)).min(LONGEST_RETRY);
    *failures += 1;
    Action::requeue(wait)
}

fn key(policy: &AuthPolicy) -> String {
    format!("{}/{}", policy.namespace().unwrap_or_default(), policy.name_any())
}

fn policies_of(store: &Store<AuthPolicy>, namespace: Option<&str>) -> Vec<ObjectRef<AuthPolicy>> {
    let policies = store.state();
    let here = policies.iter().filter(|policy| policy.namespace().as_deref() == namespace);
    here.map(|policy| ObjectRef::from_obj(policy.as_ref())).collect()
}

/// The policy that a cluster-scoped object belongs to.
fn of(object: &impl ResourceExt) -> Option<ObjectRef<AuthPolicy>> {
    let (namespace, name) = object.annotations().get(names::POLICY_ANNOTATION)?.split_once('/')?;
    Some(ObjectRef::new(name).within(namespace))
}

/// What no policy's event leads to: certificates that come of age before there is a policy, and objects whose policy is gone.
async fn housekeeping(context: Arc<Context>) {
    let mut sweep = tokio::time::interval(SWEEP_EVERY);
    let mut certificates = tokio::time::interval(CERTIFICATES_EVERY);
    loop {
        let (what, done) = tokio::select! {
            _ = sweep.tick() => ("sweeping", sweep_orphans(&context).await),
            _ = certificates.tick() => ("certificates", policy::settings(&context).await.map(drop)),
        };
        if let Err(error) = done {
            tracing::warn!(%error, "{what} failed; it is repeated");
            certificates.reset_after(FIRST_RETRY * 5);
        }
    }
}

/// A policy whose finalizer somebody took away leaves cluster-scoped objects behind, which nothing owns.
async fn sweep_orphans(context: &Context) -> Result<(), policy::Error> {
    sweep::<MutatingAdmissionPolicyBinding>(context).await?;
    sweep::<ValidatingAdmissionPolicyBinding>(context).await?;
    sweep::<MutatingAdmissionPolicy>(context).await?;
    sweep::<ValidatingAdmissionPolicy>(context).await
}

async fn sweep<K>(context: &Context) -> Result<(), policy::Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let api: Api<K> = Api::all(context.client.clone());
    let label = format!("{}={}", names::MANAGED_BY_LABEL, names::MANAGED_BY);
    for object in api.list_metadata(&ListParams::default().labels(&label)).await? {
        let Some(policy) = of(&object) else { continue };
        let namespace = policy.namespace.clone().unwrap_or_default();
        let policies: Api<AuthPolicy> = Api::namespaced(context.client.clone(), &namespace);
        if policies.get_metadata_opt(&policy.name).await?.is_none() {
            api.delete(&object.name_any(), &DeleteParams::default()).await?;
            tracing::info!(kind = %K::kind(&()), name = object.name_any(), "swept an orphan");
        }
    }
    Ok(())
}
