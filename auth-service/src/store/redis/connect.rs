//! Connections to Redis in its three forms, and when to give one up.
//!
//! After a failover the old primary is unreachable, or answers READONLY: either way the connection is given up and the primary is looked
//! up anew, by asking the sentinels or the cluster again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo,
    Pipeline, RedisError, RedisFuture, RedisResult, ServerErrorKind, TlsCertificates, TlsMode, Value,
};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::RedisSetupError;
use crate::config::{RedisConfig, Topology};
use crate::store::StoreError;

const CONNECT: Duration = Duration::from_secs(2);
/// After a failure to connect, others fail with it instead of trying as well.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) enum Connector {
    Single(Client),
    Sentinel(Mutex<SentinelClient>),
    Cluster(ClusterClient),
}

#[derive(Clone)]
pub(super) enum Connection {
    Node(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Connector {
    pub(super) fn new(config: &RedisConfig, answer_within: Duration) -> Result<Self, RedisSetupError> {
        let password = read_secret(config.password_file.as_deref())?;
        let urls = config.urls.iter().map(|url| connection_info(url, config, password.as_deref()));
        let urls = urls.collect::<Result<Vec<_>, _>>()?;
        let tls = certificates(config)?;
        let first = urls.first().cloned().ok_or_else(|| RedisSetupError::Setting("urls: at least one".to_owned()))?;
        Ok(match config.topology {
            Topology::Single if is_tls(&first) => Self::Single(Client::build_with_tls(first, tls)?),
            Topology::Single => Self::Single(Client::open(first)?),
            Topology::Cluster => {
                let secure = is_tls(&first);
                let mut builder = ClusterClient::builder(urls)
                    .connection_timeout(CONNECT)
                    .response_timeout(answer_within)
                    .overall_response_timeout(Some(answer_within + CONNECT))
                    .retries(3)
                    .max_retry_wait(300);
                if secure {
                    builder = builder.certs(tls);
                }
                Self::Cluster(builder.build()?)
            }
            Topology::Sentinel => Self::Sentinel(Mutex::new(sentinel(config, &urls, password, tls)?)),
        })
    }

    async fn connect(&self, answer_within: Duration) -> RedisResult<Connection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(answer_within));
        Ok(match self {
            Self::Single(client) => {
                Connection::Node(client.get_multiplexed_async_connection_with_config(&config).await?)
            }
            Self::Sentinel(client) => {
                let mut client = client.lock().await;
                let attempt = client.get_async_connection_with_config(&config);
                let connection = tokio::time::timeout(CONNECT * 2, attempt).await;
                Connection::Node(
                    connection.map_err(|_| RedisError::from((ErrorKind::Io, "no sentinel answers in time")))??,
                )
            }
            Self::Cluster(client) => {
                let connection = tokio::time::timeout(CONNECT * 2, client.get_async_connection()).await;
                Connection::Cluster(
                    connection.map_err(|_| RedisError::from((ErrorKind::Io, "no node answers in time")))??,
                )
            }
        })
    }
}

fn read_secret(path: Option<&std::path::Path>) -> Result<Option<String>, RedisSetupError> {
    let Some(path) = path else { return Ok(None) };
    let text = std::fs::read_to_string(path);
    text.map(|text| Some(text.trim_end_matches(['\n', '\r']).to_owned()))
        .map_err(|error| RedisSetupError::Setting(format!("{}: {error}", path.display())))
}

fn connection_info(url: &str, config: &RedisConfig, password: Option<&str>) -> Result<ConnectionInfo, RedisSetupError> {
    let info = url.into_connection_info()?;
    let mut settings = info.redis_settings().clone();
    if let Some(username) = &config.username {
        settings = settings.set_username(username);
    }
    if let Some(password) = password {
        settings = settings.set_password(password);
    }
    Ok(info.set_redis_settings(settings))
}

fn is_tls(info: &ConnectionInfo) -> bool {
    matches!(info.addr(), ConnectionAddr::TcpTls { .. })
}

fn certificates(config: &RedisConfig) -> Result<TlsCertificates, RedisSetupError> {
    let read = |path: &std::path::Path| {
        std::fs::read(path).map_err(|error| RedisSetupError::Setting(format!("{}: {error}", path.display())))
    };
    let root_cert = config.ca_file.as_deref().map(read).transpose()?;
    let client_tls = match &config.client_tls {
        Some(files) => Some(ClientTlsConfig { client_cert: read(&files.cert)?, client_key: read(&files.key)? }),
        None => None,
    };
    Ok(TlsCertificates { client_tls, root_cert })
}

/// The URLs are those of the sentinels; their scheme counts for the data nodes too.
fn sentinel(
    config: &RedisConfig,
    urls: &[ConnectionInfo],
    password: Option<String>,
    tls: TlsCertificates,
) -> Result<SentinelClient, RedisSetupError> {
    let name = config.sentinel_primary.clone().unwrap_or_default();
    let addresses = urls.iter().map(|info| info.addr().clone());
    let mut builder = SentinelClientBuilder::new(addresses, name, SentinelServerType::Master)?;
    if let Some(first) = urls.first() {
        builder = builder.set_client_to_redis_db(first.redis_settings().db());
        if is_tls(first) {
            builder = builder
                .set_client_to_redis_tls_mode(TlsMode::Secure)
                .set_client_to_sentinel_tls_mode(TlsMode::Secure)
                .set_client_to_redis_certificates(tls.clone())
                .set_client_to_sentinel_certificates(tls);
        }
        if let Some(username) = first.redis_settings().username() {
            builder = builder.set_client_to_redis_username(username);
        }
        let from_url = first.redis_settings().password().map(str::to_owned);
        if let Some(password) = password.or(from_url) {
            builder = builder.set_client_to_redis_password(password);
        }
    }
    if let Some(username) = &config.sentinel_username {
        builder = builder.set_client_to_sentinel_username(username);
    }
    if let Some(password) = read_secret(config.sentinel_password_file.as_deref())? {
        builder = builder.set_client_to_sentinel_password(password);
    }
    Ok(builder.build()?)
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Node(connection) => connection.req_packed_command(cmd),
            Self::Cluster(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        cmd: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Node(connection) => connection.req_packed_commands(cmd, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(cmd, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Node(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

/// One connection, opened when it is needed and again when it was lost.
pub(super) struct Line {
    connector: Connector,
    answer_within: Duration,
    current: ArcSwapOption<(u64, Connection)>,
    generation: AtomicU64,
    opening: Mutex<Option<(Instant, String)>>,
}

impl Line {
    pub(super) fn new(config: &RedisConfig, answer_within: Duration) -> Result<Self, RedisSetupError> {
        Ok(Self {
            connector: Connector::new(config, answer_within)?,
            answer_within,
            current: ArcSwapOption::empty(),
            generation: AtomicU64::new(0),
            opening: Mutex::new(None),
        })
    }

    pub(super) async fn get(&self) -> Result<(u64, Connection), StoreError> {
        if let Some(open) = self.current.load().as_deref() {
            return Ok(open.clone());
        }
        let mut failure = self.opening.lock().await;
        if let Some(open) = self.current.load().as_deref() {
            return Ok(open.clone());
        }
        if let Some((at, why)) = failure.as_ref()
            && at.elapsed() < PAUSE
        {
            return Err(StoreError::Unavailable(why.clone()));
        }
        match self.connector.connect(self.answer_within).await {
            Ok(connection) => {
                *failure = None;
                let open = (self.generation.fetch_add(1, Ordering::Relaxed), connection);
                self.current.store(Some(std::sync::Arc::new(open.clone())));
                Ok(open)
            }
            Err(error) => {
                *failure = Some((Instant::now(), error.to_string()));
                Err(StoreError::Unavailable(error.to_string()))
            }
        }
    }

    /// Gives up a connection that failed, unless somebody has opened another one already.
    pub(super) fn give_up(&self, generation: u64) {
        let current = self.current.load();
        if current.as_deref().is_some_and(|open| open.0 == generation) {
            self.current.compare_and_swap(&current, None);
        }
    }

    pub(super) fn give_up_any(&self) {
        self.current.store(None);
    }
}

/// What an error says about the connection and the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The server does not know the script.
    NoScript,
    /// Not executed: this is no (longer a) primary, or not yet.
    WrongServer,
    /// Nobody knows whether it was executed.
    Lost,
    /// The server answered, and refuses.
    Refused,
}

pub(super) fn judge(error: &RedisError) -> Verdict {
    match error.kind() {
        ErrorKind::Server(ServerErrorKind::NoScript) => Verdict::NoScript,
        ErrorKind::Server(
            ServerErrorKind::ReadOnly
            | ServerErrorKind::BusyLoading
            | ServerErrorKind::MasterDown
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::TryAgain
            | ServerErrorKind::Moved
            | ServerErrorKind::Ask,
        ) => Verdict::WrongServer,
        ErrorKind::Server(_) => {
            // Scripts wrap the error of the command inside them.
            if error.to_string().contains("READONLY") { Verdict::WrongServer } else { Verdict::Refused }
        }
        ErrorKind::Extension if error.code() == Some("UNBLOCKED") => Verdict::WrongServer,
        ErrorKind::Extension if error.to_string().contains("READONLY") => Verdict::WrongServer,
        ErrorKind::Extension | ErrorKind::UnexpectedReturnType => Verdict::Refused,
        _ => Verdict::Lost,
    }
}
