//! The configuration: one YAML or JSON file, environment variables on top, every mistake with its place.

mod defaults;
mod overrides;
pub mod providers;
pub mod registration;
mod token_issuers;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use crate::keys::Algorithm;
use crate::webauthn::Party;
pub use token_issuers::{ClaimMapping, IntrospectionEndpoint, IssuerKeys, JwtTypes, TokenIssuer};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The public URL, `iss` of every token: `https://auth.example.com`, or http on this machine.
    pub issuer: String,
    #[serde(default)]
    pub public: Listener,
    pub internal: Listener,
    /// Health and metrics, plain HTTP.
    #[serde(default)]
    pub metrics: Option<SocketAddr>,
    #[serde(default)]
    pub store: StoreConfig,
    #[serde(default)]
    pub signing: Signing,
    /// Who issues the tokens that workloads authenticate with.
    #[serde(default)]
    pub workload_issuers: Vec<WorkloadIssuer>,
    /// Other issuers whose access tokens are taken beside ours.
    #[serde(default)]
    pub token_issuers: Vec<TokenIssuer>,
    /// Subjects that may register policies and revoke anything: `system:serviceaccount:<namespace>:<name>`.
    #[serde(default)]
    pub operators: Vec<String>,
    #[serde(default)]
    pub admin: Admin,
    /// Proxies whose `X-Forwarded-For` says where people are.
    #[serde(default)]
    pub trusted_proxies: Vec<IpNet>,
    /// The auth service's own session, which signs people in at one app after another.
    #[serde(default)]
    pub session: SessionConfig,
    #[serde(default)]
    pub tokens: Tokens,
    #[serde(default)]
    pub dpop: Dpop,
    #[serde(default)]
    pub passwords: Passwords,
    #[serde(default)]
    pub factors: Factors,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub theme: Theme,
    #[serde(default)]
    pub messages: Wording,
    /// What scopes mean to people who are asked for consent.
    #[serde(default)]
    pub scopes: BTreeMap<String, String>,
    /// Other OpenID providers that people may sign in with.
    #[serde(default)]
    pub providers: Vec<providers::Provider>,
    /// Clients that register themselves.
    #[serde(default)]
    pub registration: registration::Registration,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Absent: 8443 public, 9443 internal, on every address. Port 0: any free one.
    #[serde(default)]
    pub listen: Option<SocketAddr>,
    /// Absent: plain HTTP; the internal listener then takes loopback addresses only.
    #[serde(default)]
    pub tls: Option<TlsFiles>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// PEM; read again when it changes.
    pub cert: PathBuf,
    pub key: PathBuf,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum StoreConfig {
    /// In this process only: trials and tests.
    #[default]
    Memory,
    Redis(Box<RedisConfig>),
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisConfig {
    /// `redis://` or `rediss://` URLs: one server; any nodes of a cluster; or the sentinels.
    pub urls: Vec<String>,
    #[serde(default)]
    pub topology: Topology,
    /// Name of the primary that the sentinels watch.
    #[serde(default)]
    pub sentinel_primary: Option<String>,
    /// ACL user of the data nodes; instead of the URL's.
    #[serde(default)]
    pub username: Option<String>,
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// Of the sentinels themselves.
    #[serde(default)]
    pub sentinel_username: Option<String>,
    #[serde(default)]
    pub sentinel_password_file: Option<PathBuf>,
    /// PEM; absent: the system's roots.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Client certificate, where the server asks for one.
    #[serde(default)]
    pub client_tls: Option<TlsFiles>,
    /// Replicas that must hold a revocation before it is acknowledged. Absent: one, where the primary has any.
    #[serde(default)]
    pub revocation_replicas: Option<u32>,
    /// Before every key.
    #[serde(default = "default_prefix")]
    pub prefix: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Topology {
    #[default]
    Single,
    Sentinel,
    Cluster,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Signing {
    pub algorithm: Algorithm,
    /// Files of 32 bytes (raw, base64 or hex) that encrypt signing keys at rest; the current one first. Needed with Redis.
    pub encryption_key_files: Vec<PathBuf>,
    /// Seconds that a key signs.
    pub rotation_seconds: u64,
    /// Seconds that it is published before.
    pub lead_seconds: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadIssuer {
    pub issuer: String,
    pub jwks: JwksSource,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum JwksSource {
    Url {
        url: String,
        #[serde(default)]
        ca_file: Option<PathBuf>,
        /// Sent as `Authorization: Bearer`; read again each time.
        #[serde(default)]
        bearer_file: Option<PathBuf>,
    },
    /// Read again when a key is not found.
    File(PathBuf),
    Inline(Value),
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// A bearer token of at least 20 characters that may do everything.
    #[serde(default)]
    pub token: Option<AdminToken>,
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// Subjects of service-account tokens of audience `cloakroom-admin` that may use the admin API.
    #[serde(default)]
    pub subjects: Vec<String>,
    /// Whether anybody else may, the cluster's own roles say.
    #[serde(default)]
    pub kubernetes_rbac: Option<KubernetesRbac>,
}

/// An API server that is asked by SubjectAccessReview; our account there needs the right to ask (`system:auth-delegator`).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KubernetesRbac {
    /// Whose tokens its roles are about: one of [`Config::workload_issuers`].
    pub issuer: String,
    /// `https://kubernetes.default.svc`
    pub url: String,
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Our own service-account token; read again each time.
    #[serde(default)]
    pub bearer_file: Option<PathBuf>,
}

#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct AdminToken(pub String);

impl std::fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AdminToken(…)")
    }
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionConfig {
    pub idle_seconds: u64,
    pub absolute_seconds: u64,
}

/// Lifetimes in seconds.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tokens {
    pub access_seconds: u64,
    /// A grant's whole life, refreshed or not.
    pub grant_seconds: u64,
    pub id_token_seconds: u64,
    /// How long a lost answer to a refresh may be asked for again.
    pub refresh_grace_seconds: u64,
    /// Of JWTs given to gateways by the public introspection.
    pub gateway_jwt_seconds: u64,
}

/// Proof of possession (RFC 9449). Clients use it as they like; what is set here is how strictly they are taken.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dpop {
    /// Each proof must have a recent nonce of ours: one made in advance is worth nothing.
    pub nonce: bool,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Passwords {
    /// `false`: people sign in with passkeys and other providers only.
    pub enabled: bool,
    pub memory_kib: u32,
    pub iterations: u32,
    pub parallelism: u32,
    /// Hashes computed at once; others wait.
    pub workers: usize,
    pub min_length: usize,
    /// How long a link to set a new one is good for.
    pub reset_link_seconds: u64,
}

/// Who needs a second factor, and how often it is asked for.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Factors {
    /// Members of these groups sign in with two factors, always.
    pub required_groups: Vec<String>,
    /// How long a browser may be trusted with only a password, where nothing demands two factors. 0: not at all.
    pub trust_browser_days: u64,
    /// Age in seconds of a sign-in that may change how one signs in.
    pub recent_seconds: u64,
}

/// Attempts in a window of [`Limits::window_seconds`].
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    pub window_seconds: u64,
    /// For one account from one address, and for a browser that has signed in to it before.
    pub per_account_and_address: u64,
    /// For one account from anywhere: high, so that nobody can lock somebody else out with a few tries.
    pub per_account: u64,
    /// From one address for any account.
    pub per_address: u64,
    /// Wrong codes of a second factor for one account in a day, from browsers that it was never used in; one where it was has its own count.
    pub codes_per_account: u64,
    /// Sign-in pages opened from one address.
    pub visits_per_address: u64,
    /// Failures of one OAuth client to authenticate from one address.
    pub per_client_and_address: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Theme {
    /// Shown on every page.
    pub name: String,
    /// Colour of buttons and links, `#rrggbb`; the text on it is white or black, whichever can be read.
    pub accent: String,
    /// In dark mode; absent: the same.
    pub accent_dark: Option<String>,
    /// Behind the page; absent: greys of ours.
    pub background: Option<String>,
    pub background_dark: Option<String>,
    /// PNG, SVG, JPEG or `WebP` of at most 256 KiB, shown on every page.
    pub logo_file: Option<PathBuf>,
}

/// What pages say, beside the English that is compiled in.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wording {
    /// Files like `de.ftl`, a language each; `en.ftl` rewords the English.
    #[serde(default)]
    pub folder: Option<PathBuf>,
}

fn default_prefix() -> String {
    "cloakroom:".to_owned()
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{}: {error}", path.display())]
    File { path: PathBuf, error: std::io::Error },
    #[error("{place}: {error}")]
    Syntax { place: String, error: String },
    #[error("{0}")]
    Invalid(String),
}

impl Config {
    /// Reads the file, then applies `CLOAKROOM_AUTH__SECTION__FIELD=value` of the environment.
    pub fn load(path: &Path, environment: impl Iterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::File { path: path.to_owned(), error })?;
        Self::parse(&text, &path.display().to_string(), environment)
    }

    /// JSON is YAML.
    pub fn parse(
        text: &str,
        place: &str,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let syntax = |error: String| ConfigError::Syntax { place: place.to_owned(), error };
        let mut tree: Value = if text.trim().is_empty() {
            Value::Object(serde_json::Map::new())
        } else {
            serde_norway::from_str(text).map_err(|error| syntax(error.to_string()))?
        };
        overrides::apply(&mut tree, environment)?;
        let config: Self = serde_json::from_value(tree).map_err(|error| syntax(error.to_string()))?;
        config.validate()?;
        Ok(config)
    }

    pub fn validate(&self) -> Result<(), ConfigError> {
        let refuse = |sentence: &str| Err(ConfigError::Invalid(sentence.to_owned()));
        if crate::registry::canonical_origin(&self.issuer).as_deref() != Some(self.issuer.as_str()) {
            return refuse(
                "issuer: https://host[:port] in lower case and without a slash at its end; http for localhost only",
            );
        }
        if self.internal.tls.is_none() && !self.internal.listen.is_some_and(|address| address.ip().is_loopback()) {
            return refuse("internal.tls: needed unless internal.listen is a loopback address");
        }
        if let StoreConfig::Redis(redis) = &self.store {
            if redis.urls.is_empty() {
                return refuse("store.redis.urls: at least one");
            }
            if redis.topology == Topology::Sentinel && redis.sentinel_primary.is_none() {
                return refuse("store.redis.sentinel_primary: the name of the primary that the sentinels watch");
            }
            if self.signing.encryption_key_files.is_empty() {
                return refuse(
                    "signing.encryption_key_files: needed with Redis, which must not hold signing keys in the clear",
                );
            }
        }
        for subject in self.operators.iter().chain(&self.admin.subjects) {
            if !subject.starts_with("system:serviceaccount:") || subject.split(':').count() != 4 {
                return Err(ConfigError::Invalid(format!(
                    "{subject:?} is not system:serviceaccount:<namespace>:<name>"
                )));
            }
        }
        if self.session.idle_seconds == 0 || self.session.absolute_seconds == 0 {
            return refuse("session: idle_seconds and absolute_seconds are at least 1");
        }
        if self.admin.token.as_ref().is_some_and(|token| token.0.len() < 20) {
            return refuse("admin.token: at least 20 characters");
        }
        let theme = &self.theme;
        let others = [&theme.accent_dark, &theme.background, &theme.background_dark].into_iter().flatten();
        if let Some(colour) = others.chain([&theme.accent]).find(|colour| crate::theme::rgb(colour).is_none()) {
            return Err(ConfigError::Invalid(format!("theme: {colour:?} is not a colour like #2f5bd8")));
        }
        for issuer in &self.workload_issuers {
            if let JwksSource::Url { url, .. } = &issuer.jwks
                && !is_confidential(url)
            {
                return Err(ConfigError::Invalid(format!("workload_issuers: {url:?}: https, or http on this machine")));
            }
        }
        if !self.passwords.enabled && self.providers.is_empty() && Party::of_issuer(&self.issuer).is_none() {
            return refuse(
                "passwords.enabled: without passwords, and without passkeys since the issuer is an address, providers are the only way in",
            );
        }
        providers::validate(&self.providers)?;
        token_issuers::validate(&self.token_issuers, &self.issuer)?;
        self.registration.validate(self.tokens)?;
        if let Some(rbac) = &self.admin.kubernetes_rbac {
            if !is_confidential(&rbac.url) {
                return refuse("admin.kubernetes_rbac.url: https, or http on this machine");
            }
            if !self.workload_issuers.iter().any(|issuer| issuer.issuer == rbac.issuer) {
                return refuse("admin.kubernetes_rbac.issuer: one of workload_issuers");
            }
        }
        Ok(())
    }

    /// Whether browsers reach the service without TLS: trials on this machine.
    pub fn is_plain(&self) -> bool {
        self.issuer.starts_with("http://")
    }
}

/// Nobody reads on the way.
pub(crate) fn is_confidential(url: &str) -> bool {
    let loopback = |url: &Url| matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
    Url::parse(url).is_ok_and(|url| url.scheme() == "https" || (url.scheme() == "http" && loopback(&url)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = "issuer: https://auth.example.com\ninternal: {listen: '127.0.0.1:0'}\n";

    /// A good one, but for what is given.
    fn provider(change: &str) -> String {
        let mut fields: BTreeMap<&str, &str> =
            [("id", "corp"), ("name", "Corp"), ("issuer", "'https://idp.example.com'"), ("client_id", "x")].into();
        fields.extend(change.split_once(": "));
        let fields: Vec<String> = fields.into_iter().map(|(name, value)| format!("{name}: {value}")).collect();
        format!("{MINIMAL}providers:\n- {{{}}}", fields.join(", "))
    }

    fn parse(text: &str, env: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::parse(text, "test.yaml", env)
    }

    #[test]
    fn a_minimal_file_is_enough_and_json_is_as_good() {
        assert_eq!(parse(MINIMAL, &[]).unwrap().signing.algorithm, Algorithm::ES256);
        parse(r#"{"issuer":"http://localhost:8001","internal":{"listen":"127.0.0.1:0"}}"#, &[]).unwrap();
        let provider = &parse(&provider(""), &[]).unwrap().providers[0];
        assert_eq!((provider.create, provider.trust_factors, provider.claims.groups.as_ref()), (false, false, None));
        let off = parse(&format!("{MINIMAL}registration: {{mode: off}}"), &[]).unwrap().registration.mode;
        assert_eq!(off, registration::Mode::Off, "a word here, not YAML 1.1's false");
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let config = parse(
            MINIMAL,
            &[
                ("CLOAKROOM_AUTH__ISSUER", "https://other.example.com"),
                ("CLOAKROOM_AUTH__TOKENS__ACCESS_SECONDS", "5"),
                ("CLOAKROOM_AUTH__OPERATORS", r#"["system:serviceaccount:a:b"]"#),
                ("CLOAKROOM_AUTH__ADMIN__TOKEN", "12345678901234567890"),
                ("PATH", "/bin"),
            ],
        )
        .unwrap();
        assert_eq!(config.issuer, "https://other.example.com");
        assert_eq!(config.tokens.access_seconds, 5);
        assert_eq!(config.operators, ["system:serviceaccount:a:b"]);
        assert_eq!(config.admin.token.unwrap().0, "12345678901234567890", "a token of digits stays text");
    }

    #[test]
    fn a_mistake_is_named() {
        for (text, names) in [
            ("issuer: https://auth.example.com/\ninternal: {listen: '127.0.0.1:0'}", "issuer"),
            ("issuer: http://auth.example.com\ninternal: {listen: '127.0.0.1:0'}", "issuer"),
            ("issuer: https://auth.example.com\ninternal: {listen: '0.0.0.0:9443'}", "internal.tls"),
            (&format!("{MINIMAL}stoer: memory"), "stoer"),
            (&format!("{MINIMAL}store: {{redis: {{urls: ['redis://x']}}}}"), "encryption_key_files"),
            (&format!("{MINIMAL}operators: [operator]"), "system:serviceaccount"),
            (&format!("{MINIMAL}admin: {{token: short}}"), "admin.token"),
            (&format!("{MINIMAL}theme: {{accent: 'red;}}'}}"), "theme"),
            (
                &format!("{MINIMAL}workload_issuers: [{{issuer: x, jwks: {{url: {{url: 'http://k8s/'}}}}}}]"),
                "workload_issuers",
            ),
            (&format!("{MINIMAL}messages: {{file: de.ftl}}"), "file"),
            (
                "issuer: http://127.0.0.1:8001\ninternal: {listen: '127.0.0.1:0'}\npasswords: {enabled: false}",
                "passwords.enabled",
            ),
            (&provider("id: Corp"), "id:"),
            (&provider("issuer: 'http://idp.example.com'"), "issuer:"),
            (&provider("group_prefix: ''"), "group_prefix"),
            (&format!("{MINIMAL}registration: {{mode: closed}}"), "unknown variant"),
            (&format!("{MINIMAL}registration: {{scopes: ['a b']}}"), "registration.scopes"),
            (&format!("{MINIMAL}registration: {{idle_seconds: 86400}}"), "registration.idle_seconds"),
            (
                &format!("{}\n- {{id: b, name: B, issuer: 'https://idp.example.com', client_id: x}}", provider("")),
                "each once",
            ),
        ] {
            let error = parse(text, &[]).unwrap_err().to_string();
            assert!(error.contains(names), "{error}");
        }
    }

    #[test]
    fn debug_does_not_show_the_admin_token() {
        let config = parse(MINIMAL, &[("CLOAKROOM_AUTH__ADMIN__TOKEN", "very-secret-admin-token")]).unwrap();
        assert!(!format!("{config:?}").contains("very-secret"));
    }
}
