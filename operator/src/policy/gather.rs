//! All reads: what a policy's namespace looks like, and where the auth service is.

use std::net::SocketAddr;

use cloakroom_crds::AuthPolicy;
use cloakroom_protocol::sidecar_config::AuthService;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret, Service};
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use super::pods::{self, Owner, PodFacts};
use super::{Error, Settings};
use crate::certificates;
use crate::context::Context;
use crate::injection::proof_key;
use crate::names::Names;
use crate::rollout::{Kind, Workload};

pub(super) struct Gathered {
    /// None while the auth service has no address: nothing can be compiled yet.
    pub settings: Settings,
    pub namespace_is_leaving: bool,
    /// Every policy of the namespace, this one too.
    pub policies: Vec<AuthPolicy>,
    pub pods: Vec<PodFacts>,
    pub workloads: Vec<Workload>,
    /// `ReplicaSet` → Deployment.
    pub replica_sets: Vec<(String, String)>,
    pub proof_key: Option<Vec<u8>>,
}

pub(super) async fn gather(policy: &AuthPolicy, names: &Names, context: &Context) -> Result<Gathered, Error> {
    let namespace = policy.namespace().unwrap_or_default();
    let all = ListParams::default();
    let policies: Api<AuthPolicy> = Api::namespaced(context.client.clone(), &namespace);
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), &namespace);
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), &namespace);
    let namespaces: Api<Namespace> = Api::all(context.client.clone());

    let home = namespaces.get_opt(&namespace).await?;
    let pods = pods.list(&all).await?;
    let secret = secrets.get_opt(&names.proof_secret).await?;
    let (workloads, replica_sets) = workloads(context, &namespace).await?;
    Ok(Gathered {
        settings: settings(context).await?,
        namespace_is_leaving: home.is_none_or(|namespace| namespace.metadata.deletion_timestamp.is_some()),
        policies: policies.list(&all).await?.items,
        pods: pods.iter().filter_map(pods::facts).collect(),
        workloads,
        replica_sets,
        proof_key: secret.and_then(|secret| Some(secret.data?.remove(proof_key())?.0)),
    })
}

/// The auth service's addresses are read each time, so that what sidecars are told is never older than one round.
pub(crate) async fn settings(context: &Context) -> Result<Settings, Error> {
    let args = &context.args;
    let services: Api<Service> = Api::namespaced(context.client.clone(), &args.namespace);
    let service = services.get(&args.internal_service).await?;
    let spec = service.spec.unwrap_or_default();
    let port = spec.ports.iter().flatten().next().map_or(9443, |port| port.port);
    let port = u16::try_from(port).unwrap_or(9443);
    let addresses = spec.cluster_ips.iter().flatten().filter_map(|ip| Some(SocketAddr::new(ip.parse().ok()?, port)));
    Ok(Settings {
        auth_service: AuthService {
            internal_url: format!("https://{}:{port}", args.internal_host()),
            addresses: addresses.collect(),
            ca: Some(certificates::ensure(&context.client, args, context.now()).await?),
            issuer: args.issuer.clone(),
        },
    })
}

async fn workloads(context: &Context, namespace: &str) -> Result<(Vec<Workload>, Vec<(String, String)>), Error> {
    let all = ListParams::default();
    let deployments: Api<Deployment> = Api::namespaced(context.client.clone(), namespace);
    let stateful_sets: Api<StatefulSet> = Api::namespaced(context.client.clone(), namespace);
    let daemon_sets: Api<DaemonSet> = Api::namespaced(context.client.clone(), namespace);
    let replica_sets: Api<ReplicaSet> = Api::namespaced(context.client.clone(), namespace);

    let mut workloads: Vec<Workload> = deployments.list(&all).await?.into_iter().filter_map(deployment).collect();
    workloads.extend(stateful_sets.list(&all).await?.into_iter().filter_map(stateful_set));
    workloads.extend(daemon_sets.list(&all).await?.into_iter().filter_map(daemon_set));
    let owners = replica_sets.list_metadata(&all).await?.into_iter().filter_map(|set| {
        let mut owners = set.metadata.owner_references.iter().flatten();
        let deployment = owners.find(|owner| owner.controller == Some(true) && owner.kind == "Deployment")?;
        Some((set.name_any(), deployment.name.clone()))
    });
    Ok((workloads, owners.collect()))
}

fn deployment(deployment: Deployment) -> Option<Workload> {
    let name = deployment.name_any();
    let generation = deployment.metadata.generation;
    let spec = deployment.spec?;
    let status = deployment.status.unwrap_or_default();
    let wanted = spec.replicas.unwrap_or(1);
    let settled = status.observed_generation >= generation
        && status.updated_replicas.unwrap_or(0) == wanted
        && status.replicas.unwrap_or(0) == wanted
        && status.available_replicas.unwrap_or(0) == wanted;
    Some(Workload {
        kind: Kind::Deployment,
        name,
        template: spec.template,
        settled,
        held: spec.paused.unwrap_or(false),
    })
}

fn stateful_set(set: StatefulSet) -> Option<Workload> {
    let name = set.name_any();
    let generation = set.metadata.generation;
    let spec = set.spec?;
    let status = set.status?;
    let wanted = spec.replicas.unwrap_or(1);
    let settled = status.observed_generation >= generation
        && status.current_revision == status.update_revision
        && status.available_replicas.unwrap_or(0) == wanted;
    let strategy = spec.update_strategy.and_then(|strategy| strategy.type_);
    Some(Workload {
        kind: Kind::StatefulSet,
        name,
        template: spec.template,
        settled,
        held: strategy.as_deref() == Some("OnDelete"),
    })
}

fn daemon_set(set: DaemonSet) -> Option<Workload> {
    let name = set.name_any();
    let generation = set.metadata.generation;
    let spec = set.spec?;
    let status = set.status?;
    let settled = status.observed_generation >= generation
        && status.updated_number_scheduled.unwrap_or(0) == status.desired_number_scheduled
        && status.number_available.unwrap_or(0) == status.desired_number_scheduled;
    let strategy = spec.update_strategy.and_then(|strategy| strategy.type_);
    Some(Workload {
        kind: Kind::DaemonSet,
        name,
        template: spec.template,
        settled,
        held: strategy.as_deref() == Some("OnDelete"),
    })
}

impl Gathered {
    /// The workload that would create this pod anew, or what stands in the way.
    pub(super) fn workload_of(&self, pod: &PodFacts) -> Result<&Workload, String> {
        let (kind, name) = match &pod.owner {
            Owner::ReplicaSet(set) => match self.replica_sets.iter().find(|(name, _)| name == set) {
                Some((_, deployment)) => (Kind::Deployment, deployment.as_str()),
                None => return Err(format!("ReplicaSet {set}")),
            },
            Owner::StatefulSet(name) => (Kind::StatefulSet, name.as_str()),
            Owner::DaemonSet(name) => (Kind::DaemonSet, name.as_str()),
            Owner::Nothing(what) => return Err(what.clone()),
        };
        let mut workloads = self.workloads.iter();
        workloads
            .find(|workload| workload.kind == kind && workload.name == name)
            .ok_or(format!("{} {name}", kind.as_str()))
    }
}
