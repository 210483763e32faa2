//! What every endpoint shares.

use std::sync::Arc;

use tokio::sync::watch;

use crate::audit::Trail;
use crate::backchannel::Backchannel;
use crate::clock::Clock;
use crate::config::Config;
use crate::endpoint::oauth::refusals::Refusals;
use crate::events::Hub;
use crate::federation::Providers;
use crate::foreign::Issuers;
use crate::keys::ring::KeyRing;
use crate::messages::Messages;
use crate::metrics::Metrics;
use crate::password::PasswordPool;
use crate::random::Random;
use crate::record::user::User;
use crate::registry::Registry;
use crate::store::Store;
use crate::theme::Look;
use crate::workload::Authenticator;

pub struct App {
    pub config: Config,
    pub store: Arc<dyn Store>,
    pub clock: Clock,
    pub random: Random,
    pub registry: Registry,
    pub ring: KeyRing,
    pub authenticator: Authenticator,
    pub foreign: Issuers,
    pub hub: Hub,
    pub passwords: PasswordPool,
    pub backchannel: Backchannel,
    pub providers: Providers,
    pub metrics: Metrics,
    pub look: Look,
    pub messages: Messages,
    pub trail: Trail,
    pub refusals: Refusals,
    /// Names this process among the replicas; new with each start.
    pub replica: String,
    /// `true` once the service is to stop: streams end.
    pub stopping: watch::Receiver<bool>,
}

pub type Shared = Arc<App>;

impl App {
    pub fn store(&self) -> &dyn Store {
        self.store.as_ref()
    }

    pub fn count_sidecars(&self) {
        self.metrics.sidecars.set(i64::try_from(self.hub.sidecars.connected()).unwrap_or(i64::MAX));
    }

    /// Whether somebody can sign in with a password: one from when there were passwords does not count.
    pub fn takes_password_of(&self, user: &User) -> bool {
        self.config.passwords.enabled && user.password.is_some()
    }

    /// Unix seconds.
    pub fn now(&self) -> u64 {
        self.clock.seconds()
    }
}
