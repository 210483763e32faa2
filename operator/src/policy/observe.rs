//! What the pods are like: proved, bypassed, outdated; and the restarts that make them what they should be.

use std::collections::{BTreeMap, BTreeSet};

use cloakroom_crds::{AuthPolicy, Rollout};
use cloakroom_protocol::policy_ref::PolicyRef;
use cloakroom_protocol::sidecar_config::Mode;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::Api;
use kube::api::{Patch, PatchParams};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::json;

use super::apply::Applied;
use super::dry_run::{self, Verdict};
use super::gather::Gathered;
use super::pods::PodFacts;
use super::{Error, Planned, conflict, upgrade};
use crate::context::Context;
use crate::injection::selector::matches;
use crate::names;
use crate::proof::{self, Answer, Question};
use crate::rollout::{self, Kind, Step, Workload};
use crate::telemetry::Outcome;

/// Everything that the status says.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Observed {
    pub(super) revision: String,
    pub(super) conflict: Option<PolicyRef>,
    pub(super) shadow: bool,
    /// The Secret that pods need before they are ready.
    pub(super) tls: Option<String>,
    pub(super) unregistered: Option<String>,
    pub(super) matched: usize,
    pub(super) proven: usize,
    /// Proven, but by an earlier configuration.
    pub(super) updating: BTreeSet<String>,
    pub(super) bypassed: BTreeMap<String, String>,
    pub(super) silent: BTreeMap<String, String>,
    /// Silent, and not ready: nobody is sent there yet.
    pub(super) starting: BTreeSet<String>,
    pub(super) outdated: BTreeSet<String>,
    /// Being deleted, and without the sidecar as it should be: until they have ended they may still answer somebody.
    pub(super) ending: BTreeSet<String>,
    pub(super) rollout: Progress,
    /// The sidecar's new image had to be taken back.
    pub(super) failed_upgrade: Option<String>,
    pub(super) upgrading: usize,
}

/// How restarting goes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Progress {
    pub(super) underway: BTreeSet<String>,
    pub(super) manual: BTreeSet<String>,
    /// Paused, or set to restart by hand.
    pub(super) held: BTreeSet<String>,
    pub(super) stuck: BTreeSet<String>,
    /// Bare pods and Jobs.
    pub(super) unrestartable: BTreeSet<String>,
    /// Workload → why its pods could not be created.
    pub(super) refused: BTreeMap<String, String>,
    /// The API server does not inject as it should yet.
    pub(super) not_yet: BTreeSet<String>,
}

impl Observed {
    /// Whether nothing is expected to change by itself soon.
    pub(super) fn is_calm(&self) -> bool {
        self.silent.is_empty()
            && self.starting.is_empty()
            && self.ending.is_empty()
            && self.updating.is_empty()
            && self.upgrading == 0
            && self.rollout.underway.is_empty()
            && self.rollout.not_yet.is_empty()
            && self.unregistered.is_none()
    }
}

pub(super) async fn observe(
    source: &AuthPolicy,
    planned: &Planned,
    gathered: &Gathered,
    applied: &Applied,
    context: &Context,
) -> Result<Observed, Error> {
    let policy = &planned.compiled.policy;
    let name = policy.reference.to_string();
    let living = || gathered.pods.iter().filter(|pod| !pod.leaving);
    let selected = |pod: &&PodFacts| {
        matches(&policy.selector, &pod.labels) && !planned.older.iter().any(|older| matches(older, &pod.labels))
    };
    let matched: Vec<&PodFacts> = living().filter(selected).filter(|pod| pod.running).collect();
    let current = |pod: &PodFacts| {
        pod.sidecar
            .as_ref()
            .is_some_and(|sidecar| sidecar.policy == name && sidecar.injection == planned.injection.revision)
    };
    let outdated: Vec<&PodFacts> = living().filter(selected).filter(|pod| !current(pod)).collect();
    let ending = gathered.pods.iter().filter(|pod| pod.leaving && pod.running).filter(selected);
    // The selector has changed: these are not ours any more.
    let left_over: Vec<&PodFacts> = living()
        .filter(|pod| !selected(pod) && pod.sidecar.as_ref().is_some_and(|sidecar| sidecar.policy == name))
        .filter(|pod| !conflict::is_anothers(&pod.labels, source, &gathered.policies))
        .collect();

    let mut observed = Observed {
        revision: planned.compiled.config.revision.clone(),
        conflict: planned.conflict.clone(),
        shadow: policy.mode == Mode::Shadow,
        tls: policy.tls.clone(),
        unregistered: applied.unregistered.clone(),
        matched: matched.len(),
        outdated: outdated.iter().map(|pod| pod.name.clone()).collect(),
        ending: ending.filter(|pod| !current(pod)).map(|pod| pod.name.clone()).collect(),
        ..Observed::default()
    };
    let with_sidecar: Vec<&PodFacts> = matched.iter().filter(|pod| current(pod)).copied().collect();
    ask(&with_sidecar, applied, context, &mut observed).await;

    let wanted = Wanted::Injected {
        policy: name.clone(),
        injection: planned.injection.revision.clone(),
        selector: policy.selector.clone(),
    };
    let manual = policy.rollout == Rollout::Manual;
    observed.rollout = restart(&policy.reference, &outdated, &wanted, manual, gathered, context).await?;
    let freed =
        restart(&policy.reference, &left_over, &Wanted::Free { policy: name }, manual, gathered, context).await?;
    observed.rollout.underway.extend(freed.underway);

    let upgrade = upgrade::upgrade(&policy.reference, &with_sidecar, context).await?;
    observed.upgrading = upgrade.underway;
    observed.failed_upgrade = upgrade.failed;
    Ok(observed)
}

/// A pod counts as protected if every one of its ports is.
async fn ask(pods: &[&PodFacts], applied: &Applied, context: &Context, observed: &mut Observed) {
    let mut questions = Vec::new();
    for pod in pods {
        let (Some(ip), Some(sidecar)) = (pod.ip, &pod.sidecar) else { continue };
        questions.extend(sidecar.ports.iter().map(|port| Question {
            pod: pod.name.clone(),
            pod_uid: pod.uid.clone(),
            ip,
            port: *port,
            tls: sidecar.tls,
        }));
    }
    let mut random: StdRng =
        SeedableRng::from_rng(&mut *context.random.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    let answers = proof::ask(&questions, &applied.proof_key, &mut random).await;
    let mut proven: BTreeSet<&str> = pods.iter().filter(|pod| pod.ip.is_some()).map(|pod| pod.name.as_str()).collect();
    for (question, answer) in questions.iter().zip(answers) {
        let outcome = match answer {
            Answer::Proven { revision } => {
                if revision != observed.revision {
                    observed.updating.insert(question.pod.clone());
                }
                "proven"
            }
            Answer::Bypassed(what) => {
                proven.remove(question.pod.as_str());
                observed.bypassed.insert(question.pod.clone(), format!("port {}: {what}", question.port));
                "bypassed"
            }
            Answer::Silent(why) => {
                proven.remove(question.pod.as_str());
                observed.silent.insert(question.pod.clone(), format!("port {}: {why}", question.port));
                "silent"
            }
        };
        context.metrics.proofs.get_or_create(&Outcome { outcome }).inc();
    }
    let unready = |pod: &&&PodFacts| !pod.ready && (observed.silent.contains_key(&pod.name) || pod.ip.is_none());
    observed.starting = pods.iter().filter(unready).map(|pod| pod.name.clone()).collect();
    observed.silent.retain(|pod, _| !observed.starting.contains(pod));
    observed.proven = proven.len();
}

/// What pods should become.
pub(super) enum Wanted {
    Injected {
        policy: String,
        injection: String,
        selector: LabelSelector,
    },
    /// Without this policy's sidecar.
    Free {
        policy: String,
    },
}

impl Wanted {
    fn goal(&self) -> String {
        match self {
            Self::Injected { policy, injection, .. } => format!("{policy}.{injection}"),
            Self::Free { policy } => format!("{policy}.free"),
        }
    }

    /// Whether pods of this template are selected at all: labels may have been given to a pod by hand.
    fn concerns(&self, workload: &Workload) -> bool {
        match self {
            Self::Injected { selector, .. } => matches(selector, &rollout::labels(&workload.template)),
            Self::Free { .. } => true,
        }
    }

    fn is_met_by(&self, verdict: &Verdict) -> bool {
        match (self, verdict) {
            (Self::Injected { policy, injection, .. }, Verdict::Injected { policy: found, injection: revision }) => {
                policy == found && injection == revision
            }
            (Self::Free { policy }, Verdict::Injected { policy: found, .. }) => policy != found,
            (Self::Free { .. }, Verdict::Plain) => true,
            _ => false,
        }
    }
}

/// Restarts the workloads of these pods, each once the API server would create its pods as wanted.
pub(super) async fn restart(
    policy: &PolicyRef,
    pods: &[&PodFacts],
    wanted: &Wanted,
    manual: bool,
    gathered: &Gathered,
    context: &Context,
) -> Result<Progress, Error> {
    let mut progress = Progress::default();
    let mut workloads: BTreeMap<(Kind, &str), &Workload> = BTreeMap::new();
    for pod in pods {
        match gathered.workload_of(pod) {
            Ok(workload) if wanted.concerns(workload) => {
                workloads.insert((workload.kind, &workload.name), workload);
            }
            Ok(_) => drop(progress.unrestartable.insert(format!("Pod {}", pod.name))),
            Err(what) => drop(progress.unrestartable.insert(what)),
        }
    }
    for workload in workloads.into_values() {
        let title = format!("{} {}", workload.kind.as_str(), workload.name);
        if manual {
            progress.manual.insert(title);
            continue;
        }
        match rollout::step(workload, &wanted.goal(), context.now()) {
            Step::Held => drop(progress.held.insert(title)),
            Step::Underway => drop(progress.underway.insert(title)),
            Step::Wait { stuck } => {
                if stuck {
                    progress.stuck.insert(title.clone());
                }
                progress.underway.insert(title);
            }
            Step::Restart { annotation, attempt } => {
                match dry_run::of_template(&context.client, policy, &workload.name, &workload.template).await? {
                    Verdict::Refused(sentence) => drop(progress.refused.insert(title, sentence)),
                    verdict if wanted.is_met_by(&verdict) => {
                        annotate_template(policy.namespace(), workload, &annotation, context).await?;
                        tracing::info!(%policy, workload = title, attempt, "restarted");
                        context.metrics.restarts.inc();
                        progress.underway.insert(title);
                    }
                    _ => drop(progress.not_yet.insert(title)),
                }
            }
        }
    }
    Ok(progress)
}

async fn annotate_template(
    namespace: &str,
    workload: &Workload,
    annotation: &str,
    context: &Context,
) -> Result<(), kube::Error> {
    let patch = json!({"spec": {"template": {"metadata": {"annotations": {names::RESTARTED_ANNOTATION: annotation}}}}});
    let (patch, params) = (Patch::Merge(patch), PatchParams::default());
    let client = context.client.clone();
    match workload.kind {
        Kind::Deployment => {
            drop(Api::<Deployment>::namespaced(client, namespace).patch(&workload.name, &params, &patch).await?);
        }
        Kind::StatefulSet => {
            drop(Api::<StatefulSet>::namespaced(client, namespace).patch(&workload.name, &params, &patch).await?);
        }
        Kind::DaemonSet => {
            drop(Api::<DaemonSet>::namespaced(client, namespace).patch(&workload.name, &params, &patch).await?);
        }
    }
    Ok(())
}
