//! Failover under load, with real processes that are killed: what was acknowledged, what was forgotten, how long nothing worked.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;

const WRITERS: u64 = 4;
const READERS: u64 = 2;
/// Nobody should wait longer for a new primary, were the machine idle: half a second until it is missed, then an election.
const BACK_WITHIN: Duration = Duration::from_secs(30);

/// A primary, replicas and three sentinels.
pub(super) struct Sentinels {
    pub(super) servers: Vec<Server>,
    pub(super) sentinels: Vec<Server>,
}

impl Sentinels {
    /// `None` where there is no Redis.
    pub(super) async fn start(replicas: usize) -> Option<Self> {
        let primary = Server::start(&[])?;
        primary.until_up().await;
        let port = primary.port.to_string();
        let mut servers = vec![primary];
        for _ in 0..replicas {
            servers.push(follower(&port).await);
        }
        let sentinels: Vec<Server> = (0..3).map(|_| sentinel(&port)).collect();
        for sentinel in &sentinels {
            eventually("the sentinel sees everybody", async || {
                let known = sentinel.command::<String>(&["INFO", "sentinel"]).await.unwrap_or_default();
                known.contains(&format!("slaves={replicas},sentinels=3"))
            })
            .await;
        }
        Some(Self { servers, sentinels })
    }

    pub(super) fn store(&self) -> RedisStore {
        let config = RedisConfig {
            sentinel_primary: Some("main".to_owned()),
            revocation_replicas: Some(1),
            ..config(self.sentinels.iter().map(Server::url).collect(), Topology::Sentinel)
        };
        RedisStore::new(&config).unwrap()
    }

    async fn primary(&self) -> usize {
        for (at, server) in self.servers.iter().enumerate() {
            let role = server.command::<String>(&["INFO", "replication"]).await.unwrap_or_default();
            if role.contains("role:master") && role.contains("state=online") {
                return at;
            }
        }
        panic!("no primary");
    }
}

pub(super) async fn follower(primary: &str) -> Server {
    let replica = Server::start(&["--replicaof", "127.0.0.1", primary]).unwrap();
    replica.until_up().await;
    eventually("the replica has caught up", async || {
        let info = replica.command::<String>(&["INFO", "replication"]).await.unwrap_or_default();
        info.contains("master_link_status:up")
    })
    .await;
    replica
}

pub(super) fn sentinel(primary: &str) -> Server {
    let text = format!(
        "sentinel monitor main 127.0.0.1 {primary} 2\nsentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n"
    );
    Server::start_with_file(&text, &["--sentinel"]).unwrap()
}

/// Sessions that begin, are used and are revoked, all the time.
struct Load {
    store: RedisStore,
    stop: AtomicBool,
    next: AtomicU64,
    /// Acknowledged and not revoked.
    live: Mutex<Vec<Key>>,
    /// Acknowledged as revoked.
    dead: Mutex<Vec<Key>>,
    /// Answers "there is no such session" about one that is live.
    wrongly_signed_out: AtomicU64,
    unavailable: AtomicU64,
    read: AtomicU64,
    last_success: Mutex<Instant>,
    longest_gap: Mutex<Duration>,
}

impl Load {
    fn new(store: RedisStore) -> Arc<Self> {
        Arc::new(Self {
            store,
            stop: AtomicBool::new(false),
            next: AtomicU64::new(0),
            live: Mutex::default(),
            dead: Mutex::default(),
            wrongly_signed_out: AtomicU64::new(0),
            unavailable: AtomicU64::new(0),
            read: AtomicU64::new(0),
            last_success: Mutex::new(Instant::now()),
            longest_gap: Mutex::default(),
        })
    }

    fn start(self: &Arc<Self>) -> tokio::task::JoinSet<()> {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..WRITERS {
            let load = Arc::clone(self);
            tasks.spawn(async move { load.write().await });
        }
        for reader in 0..READERS {
            let load = Arc::clone(self);
            tasks.spawn(async move { load.read(reader).await });
        }
        tasks
    }

    async fn write(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let key = Key::new("session", number);
            if self.store.create_durably(&key, fields(), None).await.is_err() {
                self.fail().await;
                continue;
            }
            self.succeed();
            if number.is_multiple_of(3) {
                // An error leaves open whether it is revoked: nothing was promised.
                match self.store.revoke(std::slice::from_ref(&key), GRAVE, &event()).await {
                    Ok(_) => self.dead.lock().unwrap().push(key),
                    Err(_) => self.fail().await,
                }
            } else {
                self.live.lock().unwrap().push(key);
            }
        }
    }

    async fn read(&self, seed: u64) {
        let mut at = usize::try_from(seed).unwrap();
        while !self.stop.load(Ordering::Relaxed) {
            at = at.wrapping_mul(31).wrapping_add(17);
            let key = {
                let live = self.live.lock().unwrap();
                if live.is_empty() { None } else { Some(live[at % live.len()].clone()) }
            };
            let Some(key) = key else {
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            };
            match self.store.read_all(&key).await {
                Ok(Some(_)) => drop(self.read.fetch_add(1, Ordering::Relaxed)),
                Ok(None) => drop(self.wrongly_signed_out.fetch_add(1, Ordering::Relaxed)),
                Err(_) => self.fail().await,
            }
        }
    }

    async fn fail(&self) {
        self.unavailable.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    fn succeed(&self) {
        let mut last = self.last_success.lock().unwrap();
        let gap = last.elapsed();
        *last = Instant::now();
        let mut longest = self.longest_gap.lock().unwrap();
        *longest = gap.max(*longest);
    }

    async fn until_writing_again(&self, since: Instant) {
        let started = Instant::now();
        while *self.last_success.lock().unwrap() < since {
            assert!(started.elapsed() < BACK_WITHIN, "no write has worked for {:?}", started.elapsed());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Everything that was acknowledged is as it was acknowledged.
    async fn verify(&self, what: &str) {
        let live: Vec<Key> = self.live.lock().unwrap().clone();
        let dead: HashSet<Key> = self.dead.lock().unwrap().iter().cloned().collect();
        let mut lost = Vec::new();
        for key in &live {
            if self.patiently(async || self.store.read_all(key).await).await.is_none() {
                lost.push(key);
            }
        }
        let mut back = Vec::new();
        for key in &dead {
            let found = self.patiently(async || self.store.read_all(key).await).await;
            if found.is_some() || !self.patiently(async || self.store.is_dead(key).await).await {
                back.push(key);
            }
        }
        println!(
            "{what}: {} sessions and {} revocations acknowledged, {} reads, {} answers of 503; longest time without a write {:?}",
            live.len(),
            dead.len(),
            self.read.load(Ordering::Relaxed),
            self.unavailable.load(Ordering::Relaxed),
            self.longest_gap.lock().unwrap(),
        );
        assert!(live.len() > 20 && dead.len() > 10, "too little to say anything");
        assert!(lost.is_empty(), "acknowledged sessions were lost: {lost:?}");
        assert!(back.is_empty(), "acknowledged revocations were forgotten: {back:?}");
        assert_eq!(self.wrongly_signed_out.load(Ordering::Relaxed), 0, "told of a live session that there is none");
    }

    async fn patiently<T>(&self, ask: impl AsyncFn() -> Result<T, StoreError>) -> T {
        let started = Instant::now();
        loop {
            match ask().await {
                Ok(answer) => return answer,
                Err(error) => assert!(started.elapsed() < BACK_WITHIN, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_a_replica_a_sentinel_and_then_the_primary_loses_nothing_that_was_acknowledged() {
    let Some(mut redis) = Sentinels::start(2).await else { return };
    let load = Load::new(redis.store());
    let mut tasks = load.start();
    tokio::time::sleep(Duration::from_millis(500)).await;
    redis.servers[2].kill();
    tokio::time::sleep(Duration::from_millis(500)).await;
    redis.sentinels[0].kill();
    load.until_writing_again(Instant::now()).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    // The last replica becomes primary: it needs one itself before anything can be acknowledged again.
    redis.servers[0].kill();
    let promoted = redis.servers[1].port.to_string();
    eventually("the replica is promoted", async || {
        let info = redis.servers[1].command::<String>(&["INFO", "replication"]).await.unwrap_or_default();
        info.contains("role:master")
    })
    .await;
    redis.servers.push(follower(&promoted).await);
    load.until_writing_again(Instant::now()).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    load.stop.store(true, Ordering::Relaxed);
    while tasks.join_next().await.is_some() {}
    load.verify("replica, sentinel, primary killed").await;
}

/// Several minutes: `cargo test -p cloakroom-auth-service failover -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes; the test above is the quick one"]
async fn ten_failovers_in_a_row_lose_nothing_that_was_acknowledged() {
    let Some(mut redis) = Sentinels::start(2).await else { return };
    let load = Load::new(redis.store());
    let mut tasks = load.start();
    for round in 0..10 {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let primary = redis.primary().await;
        let port = redis.servers[primary].port;
        redis.servers[primary].kill();
        let killed = Instant::now();
        load.until_writing_again(killed + Duration::from_millis(1)).await;
        println!("round {round}: writes again after {:?}", killed.elapsed());
        // It comes back empty, as what it is: the sentinels make it follow the new primary.
        let new = redis.primary().await;
        let leader = redis.servers[new].port.to_string();
        redis.servers[primary] = Server::start_at(port, &["--replicaof", "127.0.0.1", &leader]).unwrap();
        redis.servers[primary].until_up().await;
    }
    load.stop.store(true, Ordering::Relaxed);
    while tasks.join_next().await.is_some() {}
    load.verify("ten primaries killed").await;
}
