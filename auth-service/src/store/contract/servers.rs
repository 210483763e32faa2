//! Stores to be tested: each with a server of its own, on free ports, gone with the test.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use redis::AsyncConnectionConfig;

use crate::clock::Clock;
use crate::config::{RedisConfig, Topology};
use crate::store::Store;
use crate::store::memory::MemoryStore;
use crate::store::redis::RedisStore;

pub(crate) struct Bench {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) servers: Vec<Server>,
}

pub(crate) struct Server {
    pub(crate) port: u16,
    directory: PathBuf,
    child: Child,
}

impl Server {
    /// `None` where there is no `redis-server`, but in CI.
    pub(crate) fn start(arguments: &[&str]) -> Option<Self> {
        Self::start_at(free_port(), arguments)
    }

    pub(crate) fn start_at(port: u16, arguments: &[&str]) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("cloakroom-redis-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let spawned = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--dir", directory.to_str().unwrap(), "--daemonize", "no"])
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match spawned {
            Ok(child) => Some(Self { port, directory, child }),
            Err(error) => {
                assert!(std::env::var("CI").as_deref() != Ok("true"), "redis-server: {error}");
                eprintln!("SKIPPED: no redis-server here ({error})");
                None
            }
        }
    }

    /// With a configuration file, which a sentinel needs.
    pub(crate) fn start_with_file(text: &str, arguments: &[&str]) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let port = free_port();
        let directory = std::env::temp_dir().join(format!("cloakroom-sentinel-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let file = directory.join("redis.conf");
        std::fs::write(&file, format!("port {port}\nbind 127.0.0.1\ndir {}\n{text}", directory.display())).unwrap();
        let child = Command::new("redis-server")
            .arg(file)
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        Some(Self { port, directory, child })
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Like `kill -STOP`: there, but silent.
    pub(crate) fn signal(&self, name: &str) {
        let done = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(done.success());
    }

    pub(crate) async fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
        // A machine busy with other things is not what is tested here.
        let patient = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(Duration::from_secs(10)))
            .set_response_timeout(Some(Duration::from_secs(10)));
        let client = redis::Client::open(self.url())?;
        let mut connection = client.get_multiplexed_async_connection_with_config(&patient).await?;
        redis::cmd(words[0]).arg(&words[1..]).query_async(&mut connection).await
    }

    pub(crate) async fn until_up(&self) {
        eventually("the server answers", async || self.command::<String>(&["PING"]).await.is_ok()).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Waits until it holds, for a while.
pub(crate) async fn eventually(what: &str, holds: impl AsyncFn() -> bool) {
    for _ in 0..600 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never: {what}");
}

/// Below the ephemeral range, so that the cluster's bus port (10,000 above) exists too.
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(12_000 + (std::process::id() * 37 + step) % 8_000).unwrap();
        let both = [port, port + 10_000].map(|port| TcpListener::bind(("127.0.0.1", port)).is_ok());
        if both == [true, true] {
            return port;
        }
    }
}

pub(crate) fn config(urls: Vec<String>, topology: Topology) -> RedisConfig {
    RedisConfig { urls, topology, prefix: "test:".to_owned(), ..RedisConfig::default() }
}

pub(crate) async fn memory() -> Option<Bench> {
    Some(Bench { store: Arc::new(MemoryStore::new(Clock::system())), servers: Vec::new() })
}

pub(crate) async fn redis_single() -> Option<Bench> {
    let server = Server::start(&[])?;
    server.until_up().await;
    let store = RedisStore::new(&config(vec![server.url()], Topology::Single)).unwrap();
    Some(Bench { store: Arc::new(store), servers: vec![server] })
}

/// Three primaries, a third of the slots each.
pub(crate) async fn redis_cluster() -> Option<Bench> {
    let arguments = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"];
    let servers = (0..3).map(|_| Server::start(&arguments)).collect::<Option<Vec<_>>>()?;
    let ranges = [("0", "5460"), ("5461", "10922"), ("10923", "16383")];
    for (server, (from, to)) in servers.iter().zip(ranges) {
        server.until_up().await;
        let _: () = server.command(&["CLUSTER", "ADDSLOTSRANGE", from, to]).await.unwrap();
    }
    for server in &servers[1..] {
        let port = server.port.to_string();
        let _: () = servers[0].command(&["CLUSTER", "MEET", "127.0.0.1", &port]).await.unwrap();
    }
    for server in &servers {
        eventually("the cluster is whole", async || {
            let info = server.command::<String>(&["CLUSTER", "INFO"]).await.unwrap_or_default();
            info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
        })
        .await;
    }
    let urls = servers.iter().map(Server::url).collect();
    let store = RedisStore::new(&config(urls, Topology::Cluster)).unwrap();
    Some(Bench { store: Arc::new(store), servers })
}
