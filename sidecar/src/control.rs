//! The control side as the data plane sees it: one instance for all workers.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cloakroom_protocol::presented::Presented;
use cloakroom_protocol::revocation::RevokeScope;
use cloakroom_protocol::sidecar_config::Outage;
use cloakroom_protocol::token::OpaqueToken;
use rand::rngs::StdRng;
use serde_json::{Map, Value};

use crate::auth_client::AuthClient;
use crate::authority::{Answer, Authority, CommitError, Exchanged, SignOutError, StepUp, Unavailable};
use crate::config::{CurrentPolicy, Policy};
use crate::identity::Identity;
use crate::local_response::LocalResponse;
use crate::metrics::Metrics;
use crate::request::head::RequestHead;
use crate::{own_paths, sign_in};

pub struct Control {
    client: Arc<AuthClient>,
    policy: Arc<CurrentPolicy>,
    metrics: Arc<Metrics>,
    proof_key_file: PathBuf,
    pod_uid: String,
    rng: Mutex<StdRng>,
}

impl Control {
    pub fn new(
        client: Arc<AuthClient>,
        policy: Arc<CurrentPolicy>,
        metrics: Arc<Metrics>,
        proof_key_file: PathBuf,
        pod_uid: String,
        rng: StdRng,
    ) -> Self {
        Self { client, policy, metrics, proof_key_file, pod_uid, rng: Mutex::new(rng) }
    }

    pub fn policy(&self) -> Option<Arc<Policy>> {
        self.policy.load_full()
    }

    pub fn client(&self) -> &AuthClient {
        &self.client
    }

    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub fn proof_key_file(&self) -> &Path {
        &self.proof_key_file
    }

    pub fn pod_uid(&self) -> &str {
        &self.pod_uid
    }

    pub fn with_rng<T>(&self, draw: impl FnOnce(&mut StdRng) -> T) -> T {
        draw(&mut self.rng.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Authority for Control {
    fn cached(&self, token: &Presented) -> Option<Arc<Identity>> {
        self.client.cached(token)
    }

    fn unheard(&self) -> Duration {
        self.client.unheard()
    }

    fn exchange<'a>(&'a self, token: &'a Presented, outage: Outage) -> Answer<'a, Result<Exchanged, Unavailable>> {
        Box::pin(self.client.exchange(token, outage))
    }

    fn commit_session<'a>(
        &'a self,
        token: &'a OpaqueToken,
        identity: &'a Identity,
        patch: Map<String, Value>,
    ) -> Answer<'a, Result<(), CommitError>> {
        Box::pin(self.client.commit_session(token, identity, patch))
    }

    fn sign_out<'a>(&'a self, token: &'a OpaqueToken, scope: RevokeScope) -> Answer<'a, Result<(), SignOutError>> {
        Box::pin(self.client.sign_out(token, scope))
    }

    fn start_sign_in<'a>(
        &'a self,
        head: &'a RequestHead,
        step_up: StepUp,
    ) -> Answer<'a, Result<LocalResponse, Unavailable>> {
        Box::pin(sign_in::start(self, head, step_up))
    }

    fn own_path<'a>(
        &'a self,
        head: &'a RequestHead,
        app_port: u16,
        token: Option<Presented>,
    ) -> Answer<'a, LocalResponse> {
        Box::pin(own_paths::answer(self, head, app_port, token))
    }
}

#[cfg(test)]
pub mod tests {
    use cloakroom_protocol::token::TokenKind;
    use http::header::SET_COOKIE;
    use http::{HeaderMap, HeaderName, Method};
    use rand::SeedableRng as _;
    use tokio::runtime::Handle;

    use super::*;
    use crate::auth_client::Setup;
    use crate::auth_client::fake::FakeAuth;
    use crate::auth_client::workload_token::TokenSource;
    use crate::identity::tests::active;
    use crate::token_cache::Bounds;

    /// The control side, connected with a fake auth service.
    pub struct Fixture {
        pub fake: FakeAuth,
        pub control: Control,
    }

    impl Fixture {
        pub async fn new() -> Self {
            Self::with_config(|_| {}).await
        }

        pub async fn with_config(change: impl FnOnce(&mut Value)) -> Self {
            let fake = FakeAuth::start().await;
            let mut config = crate::config::tests::config(&format!("http://{}", fake.address));
            change(&mut config);
            let policy = Arc::new(Policy::parse(config.to_string().as_bytes()).unwrap());
            let current = Arc::new(CurrentPolicy::from(Some(policy.clone())));
            let metrics = Arc::<Metrics>::default();
            let client = AuthClient::start(Setup {
                policy: current.clone(),
                metrics: metrics.clone(),
                workload: TokenSource::Fixed("workload".into()),
                sidecar: "pod-1".into(),
                runtime: Handle::current(),
                bounds: Bounds::default(),
            });
            client.policy_changed(None, &policy);
            let key =
                std::env::temp_dir().join(format!("cloakroom-proof-{}-{}", std::process::id(), fake.address.port()));
            let rng = StdRng::seed_from_u64(11);
            Self { fake, control: Control::new(client, current, metrics, key, "pod-1".into(), rng) }
        }

        /// A session that the auth service knows.
        pub fn session(&self) -> OpaqueToken {
            let token = self.control.with_rng(|rng| OpaqueToken::generate(TokenKind::Session, rng));
            self.fake.with(|told| told.active.insert(token.expose().to_owned(), active(&token.clone().into(), "ann")));
            token
        }
    }

    pub fn head(method: &str, path_and_query: &str, headers: &[(&str, &str)]) -> RequestHead {
        let (path, query) =
            path_and_query.split_once('?').map_or((path_and_query, None), |(path, query)| (path, Some(query)));
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        RequestHead {
            method: Method::from_bytes(method.as_bytes()).unwrap(),
            path: path.into(),
            query: query.map(Into::into),
            headers: map,
            origin: "https://shop.example.com".into(),
            client: "10.0.0.1".parse().unwrap(),
            decision_id: "d1".into(),
        }
    }

    pub fn cookies(response: &LocalResponse) -> Vec<&str> {
        response.headers.get_all(SET_COOKIE).iter().map(|value| value.to_str().unwrap()).collect()
    }

    pub fn text(response: &LocalResponse) -> &str {
        std::str::from_utf8(&response.body).unwrap()
    }
}
