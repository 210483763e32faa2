//! What every part of the controller works with.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::runtime::events::Recorder;
use rand::rngs::StdRng;

use crate::args::Args;
use crate::injection::Sidecar;
use crate::registration::AuthService;
use crate::telemetry::Metrics;

pub struct Context {
    pub client: Client,
    pub args: Args,
    pub auth_service: AuthService,
    pub recorder: Recorder,
    pub metrics: Metrics,
    pub clock: fn() -> Timestamp,
    pub random: Mutex<StdRng>,
    pub memory: Mutex<Memory>,
}

/// What is known from earlier rounds and can be forgotten without harm.
#[derive(Default)]
pub struct Memory {
    /// Generation of each cluster-scoped object as we wrote it: another one means that somebody changed it.
    pub written: HashMap<String, i64>,
    /// Registrations that the auth service has acknowledged: revision and time.
    pub registered: HashMap<String, (String, Timestamp)>,
    /// Upgrades of sidecars under way: by pod UID, when its image was patched, and what it was before.
    pub upgrading: HashMap<String, (Timestamp, String)>,
    /// Failures in a row, by policy.
    pub failures: HashMap<String, u32>,
    /// Images that had to be taken back.
    pub failed_images: BTreeSet<String>,
}

impl Context {
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// A poisoned lock still holds memory that can be forgotten without harm.
    pub fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn sidecar(&self) -> Sidecar {
        Sidecar {
            image: self.args.sidecar_image.clone(),
            pull_policy: self.args.sidecar_pull_policy.clone(),
            resources: self.args.sidecar_resources.clone(),
            issuer: self.args.issuer.clone(),
            operator: format!("system:serviceaccount:{}:{}", self.args.namespace, self.args.service_account),
        }
    }
}
