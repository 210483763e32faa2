//! Two replicas over a real Redis, which goes away and comes back.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use cloakroom_auth_service::config::RedisConfig;
use cloakroom_auth_service::store::Store;
use cloakroom_auth_service::store::redis::RedisStore;
use http::Method;
use serde_json::{Value, json};

use crate::harness::{Browser, PASSWORD, Service, TestClock};

const SHOP: &str = "https://shop.example.com";

struct Redis {
    port: u16,
    child: Child,
}

impl Redis {
    /// `None` where there is no `redis-server`, but in CI.
    fn start(port: u16) -> Option<Self> {
        let directory = std::env::temp_dir();
        let spawned = Command::new("redis-server")
            .args([
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--dir",
                directory.to_str().unwrap(),
            ])
            .stdout(Stdio::null())
            .spawn();
        match spawned {
            Ok(child) => Some(Self { port, child }),
            Err(error) => {
                assert!(std::env::var("CI").as_deref() != Ok("true"), "redis-server: {error}");
                eprintln!("SKIPPED: no redis-server here ({error})");
                None
            }
        }
    }

    fn store(&self) -> Arc<dyn Store> {
        let urls = vec![format!("redis://127.0.0.1:{}", self.port)];
        Arc::new(
            RedisStore::new(&RedisConfig { urls, prefix: "cloakroom:".to_owned(), ..RedisConfig::default() }).unwrap(),
        )
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

async fn replica(redis: &Redis, seed: u64) -> Service {
    let key = std::env::temp_dir().join(format!("cloakroom-key-{}-{}", std::process::id(), redis.port));
    std::fs::write(&key, [3; 32]).unwrap();
    let sealing = |config: &mut Value| config["signing"] = json!({"encryption_key_files": [key.to_str().unwrap()]});
    let service = Service::replica(sealing, redis.store(), TestClock::new(), seed).await;
    service.running.ready().await;
    std::fs::remove_file(&key).unwrap();
    service
}

#[tokio::test]
async fn two_replicas_share_sessions_and_revocations_through_redis() {
    let Some(redis) = Redis::start(free_port()) else { return };
    let one = replica(&redis, 1).await;
    let other = replica(&redis, 2).await;
    one.register_policy("shop/web", SHOP).await.expect(200);
    one.create_user("ann").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    // Pushed here, signed in there, exchanged here.
    let mut browser = Browser::default();
    let url = one
        .push("shop/web", SHOP, &[])
        .await
        .replace(&one.running.public_addr.to_string(), &other.running.public_addr.to_string());
    let to_page = browser.get(&other, &url).await.expect(303);
    let back = browser.sign_in(&other, &to_page, "ann", PASSWORD).await.expect(303);
    let code = back.location_parameter("code").unwrap();
    let token =
        one.exchange("shop/web", SHOP, &code).await.expect(200).json()["session_token"].as_str().unwrap().to_owned();
    assert_eq!(other.introspect(&token, "shop/web").await["active"], true);
    let patch = json!({"token": token, "policy": "shop/web", "version": 0, "patch": {"cart": 1}});
    one.internal_json(Method::POST, "/internal/v1/session", &one.workload("shop"), &patch).await.expect(200);
    assert_eq!(other.introspect(&token, "shop/web").await["session"], json!({"cart": 1}));
    let receipt = other
        .internal_json(Method::POST, "/internal/v1/revoke", &other.workload("shop"), &json!({"token": token}))
        .await;
    assert!(receipt.expect(200).json()["event_id"].is_string());
    assert_eq!(one.introspect(&token, "shop/web").await, json!({"active": false}));
}

#[tokio::test]
async fn redis_going_away_signs_nobody_out_and_needs_no_restart() {
    let Some(mut redis) = Redis::start(free_port()) else { return };
    let service = replica(&redis, 1).await;
    service.register_policy("shop/web", SHOP).await.expect(200);
    service.create_user("ann").await;
    let token = service.sign_in_at(&mut Browser::default(), "shop/web", SHOP, "ann").await;
    let stop = |name: &str, redis: &Redis| {
        assert!(Command::new("kill").args([name, &redis.child.id().to_string()]).status().unwrap().success());
    };
    let ask = async || {
        let form = [("token", token.as_str()), ("policy", "shop/web")];
        service.internal_form("/internal/v1/introspect", &service.workload("shop"), &form).await
    };
    stop("-STOP", &redis);
    let silent = ask().await;
    stop("-CONT", &redis);
    assert_eq!((silent.status.as_u16(), silent.header("retry-after")), (503, "1"));
    // A failure to connect stands for a tenth of a second.
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(ask().await.expect(200).json()["active"], true);

    let port = redis.port;
    drop(std::mem::replace(&mut redis, Redis::start(free_port()).unwrap()));
    for _ in 0..5 {
        ask().await.expect(503);
    }
    let _back = Redis::start(port).unwrap();
    // It came back empty: the operator sees that, and registers again.
    let list =
        async || service.internal_json(Method::GET, "/internal/v1/policies", &service.operator(), &json!({})).await;
    let mut listed = list().await;
    for _ in 0..100 {
        if listed.status == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        listed = list().await;
    }
    assert_eq!(listed.expect(200).json(), json!([]));
    service.register_policy("shop/web", SHOP).await.expect(200);
    service.create_user("bob").await;
    let token = service.sign_in_at(&mut Browser::default(), "shop/web", SHOP, "bob").await;
    let active = service.introspect(&token, "shop/web").await;
    crate::harness::verify(&service, active["jwt"].as_str().unwrap(), "shop/web").await;
}

/// What the server has been asked since the last look, by command.
async fn commands(redis: &Redis) -> std::collections::HashMap<String, u64> {
    let url = format!("redis://127.0.0.1:{}", redis.port);
    let mut connection = redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
    let info: String = redis::cmd("INFO").arg("commandstats").query_async(&mut connection).await.unwrap();
    let () = redis::cmd("CONFIG").arg("RESETSTAT").query_async(&mut connection).await.unwrap();
    let calls = info.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        Some((name.to_owned(), rest.split_once(',')?.0.parse().ok()?))
    });
    calls.collect()
}

#[tokio::test]
async fn an_introspection_costs_one_round_trip_and_junk_none() {
    let Some(redis) = Redis::start(free_port()) else { return };
    let service = replica(&redis, 1).await;
    service.register_policy("shop/web", SHOP).await.expect(200);
    service.create_user("ann").await;
    let token = service.sign_in_at(&mut Browser::default(), "shop/web", SHOP, "ann").await;
    commands(&redis).await;
    for _ in 0..50 {
        assert_eq!(service.introspect(&token, "shop/web").await["active"], true);
        assert_eq!(service.introspect("cs_junk", "shop/web").await["active"], false);
    }
    let asked = commands(&redis).await;
    assert_eq!(asked.get("hmget"), Some(&50), "{asked:?}");
    // Upkeep goes on beside it: the stream, the registry, the keys.
    let others: u64 = ["hgetall", "hget", "get", "hset", "evalsha"].iter().filter_map(|name| asked.get(*name)).sum();
    assert!(others < 25, "{asked:?}");
}

#[tokio::test]
async fn a_session_that_nobody_changes_is_not_written_however_often_it_is_used() {
    let Some(redis) = Redis::start(free_port()) else { return };
    let service = replica(&redis, 1).await;
    service.register_policy("shop/web", SHOP).await.expect(200);
    service.create_user("ann").await;
    let token = service.sign_in_at(&mut Browser::default(), "shop/web", SHOP, "ann").await;
    let key = format!("cloakroom:{{{}}}:session", &token[3..25]);
    let url = format!("redis://127.0.0.1:{}", redis.port);
    let mut connection = redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
    // Redis counts down; only a write would set the time of its end anew.
    let mut look = async || -> (std::collections::BTreeMap<String, String>, u64) {
        let fields = redis::cmd("HGETALL").arg(&key).query_async(&mut connection).await.unwrap();
        let ends = redis::cmd("PEXPIRETIME").arg(&key).query_async(&mut connection).await.unwrap();
        (fields, ends)
    };
    let before = look().await;
    for _ in 0..100 {
        assert_eq!(service.introspect(&token, "shop/web").await["active"], true);
    }
    assert_eq!(look().await, before);
    // A minute later the use is written down: once.
    service.clock.pass(61);
    for _ in 0..20 {
        service.introspect(&token, "shop/web").await;
    }
    let mut after = look().await;
    for _ in 0..200 {
        if after != before {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        after = look().await;
    }
    assert_ne!(after.0["u"], before.0["u"]);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(look().await, after);
}

#[tokio::test]
async fn a_primary_that_takes_no_writes_earns_no_heartbeat() {
    use http_body_util::BodyExt;
    let Some(redis) = Redis::start(free_port()) else { return };
    let service = replica(&redis, 1).await;
    let mut admin = redis::Client::open(format!("redis://127.0.0.1:{}", redis.port))
        .unwrap()
        .get_multiplexed_async_connection()
        .await
        .unwrap();
    let mut replicas_needed = async |count: u8| {
        let () = redis::cmd("CONFIG")
            .arg("SET")
            .arg("min-replicas-to-write")
            .arg(count)
            .query_async(&mut admin)
            .await
            .unwrap();
    };
    let authorization = service.workload("shop");
    let url = service.internal("/internal/v1/events?sidecar=a");
    let mut body = service.open(Method::GET, &url, &[("authorization", &authorization)], "").await.into_body();
    let mut silent_for =
        async |limit: u64| tokio::time::timeout(Duration::from_millis(limit), body.frame()).await.is_err();
    assert!(!silent_for(2000).await && !silent_for(2000).await);
    replicas_needed(1).await;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    while !silent_for(100).await {}
    assert!(silent_for(2500).await, "it answers reads, and may have been replaced");
    replicas_needed(0).await;
    assert!(!silent_for(3000).await);
}
