//! What matters of a pod: whether it has our sidecar, of which policy and how old, and who would create it anew.

use std::collections::BTreeMap;
use std::net::IpAddr;

use cloakroom_protocol::injected;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod};
use k8s_openapi::jiff::Timestamp;

use crate::names;

/// A pod that has not ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PodFacts {
    pub name: String,
    pub uid: String,
    pub labels: BTreeMap<String, String>,
    pub running: bool,
    /// Being deleted: it still serves, but nothing more is asked of it.
    pub leaving: bool,
    pub ready: bool,
    pub ip: Option<IpAddr>,
    pub owner: Owner,
    /// None: no sidecar of ours.
    pub sidecar: Option<SidecarFacts>,
    /// The config revision that kubelet was last pointed at.
    pub revision: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct SidecarFacts {
    /// `<namespace>/<name>` of the policy that injected it.
    pub policy: String,
    pub injection: String,
    /// What it is meant to run.
    pub image: String,
    pub ports: Vec<u16>,
    /// These speak TLS.
    pub tls: bool,
    pub ready: bool,
    /// Of the container that runs now.
    pub started: Option<Timestamp>,
    /// It waits for something that time alone does not bring, e.g. `ImagePullBackOff`.
    pub hopeless: bool,
}

/// Who creates the pod anew when it is gone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    ReplicaSet(String),
    StatefulSet(String),
    DaemonSet(String),
    /// `Job x`, or a pod that stands alone: nothing that could be restarted.
    Nothing(String),
}

/// None of a pod that has ended.
pub(super) fn facts(pod: &Pod) -> Option<PodFacts> {
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref()).unwrap_or_default();
    if matches!(phase, "Succeeded" | "Failed") {
        return None;
    }
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let annotations = pod.metadata.annotations.clone().unwrap_or_default();
    let name = pod.metadata.name.clone().unwrap_or_default();
    Some(PodFacts {
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        labels: pod.metadata.labels.clone().unwrap_or_default(),
        running: phase == "Running",
        leaving: pod.metadata.deletion_timestamp.is_some(),
        ready: conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True"),
        ip: status.and_then(|status| status.pod_ip.as_deref()).and_then(|ip| ip.parse().ok()),
        owner: owner(pod, &name),
        sidecar: sidecar(pod, &annotations),
        revision: annotations.get(names::REVISION_ANNOTATION).cloned(),
        name,
    })
}

fn owner(pod: &Pod, name: &str) -> Owner {
    let mut owners = pod.metadata.owner_references.iter().flatten();
    match owners.find(|owner| owner.controller == Some(true)) {
        Some(owner) => match owner.kind.as_str() {
            "ReplicaSet" => Owner::ReplicaSet(owner.name.clone()),
            "StatefulSet" => Owner::StatefulSet(owner.name.clone()),
            "DaemonSet" => Owner::DaemonSet(owner.name.clone()),
            kind => Owner::Nothing(format!("{kind} {}", owner.name)),
        },
        None => Owner::Nothing(format!("Pod {name}")),
    }
}

fn sidecar(pod: &Pod, annotations: &BTreeMap<String, String>) -> Option<SidecarFacts> {
    let containers = pod.spec.as_ref()?.init_containers.as_deref().unwrap_or_default();
    let container = containers.iter().find(|container| container.name == injected::CONTAINER)?;
    let statuses = pod.status.as_ref().and_then(|status| status.init_container_statuses.as_deref()).unwrap_or_default();
    let status = statuses.iter().find(|status| status.name == injected::CONTAINER);
    Some(SidecarFacts {
        policy: annotations.get(names::POLICY_ANNOTATION).cloned().unwrap_or_default(),
        injection: annotations.get(names::INJECTION_ANNOTATION).cloned().unwrap_or_default(),
        image: container.image.clone().unwrap_or_default(),
        ports: injected::parse_ports(environment(container, injected::PORTS_ENV))
            .unwrap_or_default()
            .into_iter()
            .map(|port| port.app)
            .collect(),
        tls: !environment(container, injected::TLS_ENV).is_empty(),
        ready: status.is_some_and(|status| status.ready),
        started: status.and_then(|status| Some(status.state.as_ref()?.running.as_ref()?.started_at.as_ref()?.0)),
        hopeless: status.is_some_and(is_hopeless),
    })
}

fn is_hopeless(status: &ContainerStatus) -> bool {
    const REASONS: [&str; 6] = [
        "CrashLoopBackOff",
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImageNeverPull",
        "ImagePullBackOff",
        "InvalidImageName",
    ];
    let waiting = status.state.as_ref().and_then(|state| state.waiting.as_ref());
    waiting.and_then(|waiting| waiting.reason.as_deref()).is_some_and(|reason| REASONS.contains(&reason))
}

fn environment<'a>(container: &'a Container, name: &str) -> &'a str {
    let mut env = container.env.iter().flatten();
    env.find(|variable| variable.name == name).and_then(|variable| variable.value.as_deref()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(yaml: &str) -> Pod {
        serde_norway::from_str(yaml).unwrap()
    }

    #[test]
    fn an_injected_pod_says_what_it_has() {
        let pod = pod(r#"
metadata:
  name: web-1
  uid: u
  annotations: {cloakroom.dev/policy: shop/web, cloakroom.dev/injection: abc, cloakroom.dev/revision: r1}
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web-7f, uid: x, controller: true}]
spec:
  containers: [{name: web}]
  initContainers:
  - {name: cloakroom-intercept}
  - {name: cloakroom, image: sidecar:1, env: [{name: CLOAKROOM_PORTS, value: "80:15006,8080:15007"}]}
status:
  phase: Running
  podIP: 10.0.0.7
  conditions: [{type: Ready, status: "True"}]
  initContainerStatuses: [{name: cloakroom, image: a, imageID: b, ready: true, restartCount: 0}]
"#);
        let facts = facts(&pod).unwrap();
        let sidecar = facts.sidecar.unwrap();
        assert_eq!((sidecar.image.as_str(), sidecar.ports, sidecar.ready), ("sidecar:1", vec![80, 8080], true));
        assert_eq!((sidecar.policy.as_str(), sidecar.injection.as_str()), ("shop/web", "abc"));
        assert_eq!(facts.owner, Owner::ReplicaSet("web-7f".into()));
        assert_eq!(facts.revision.as_deref(), Some("r1"));
        assert!(facts.running && facts.ready);
    }

    #[test]
    fn pods_that_have_ended_do_not_count() {
        assert!(facts(&pod("{metadata: {name: a}, status: {phase: Succeeded}}")).is_none());
        assert!(facts(&pod("{metadata: {name: a}, status: {phase: Failed}}")).is_none());
        let leaving = "{metadata: {name: a, deletionTimestamp: '2026-01-01T00:00:00Z'}, status: {phase: Running}}";
        assert!(facts(&pod(leaving)).unwrap().leaving);
    }

    #[test]
    fn what_nothing_restarts_is_named() {
        let bare = facts(&pod("{metadata: {name: a}}")).unwrap();
        assert_eq!(bare.owner, Owner::Nothing("Pod a".into()));
        let job = "{metadata: {name: a, ownerReferences: [{apiVersion: batch/v1, kind: Job, name: j, uid: x, controller: true}]}}";
        assert_eq!(facts(&pod(job)).unwrap().owner, Owner::Nothing("Job j".into()));
    }
}
