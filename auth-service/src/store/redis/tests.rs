//! What only real servers show: outages, failover, replication, rights.

use std::time::{Duration, Instant};

use super::*;
use crate::config::{RedisConfig, Topology};
use crate::store::contract::servers::{Server, config, eventually, redis_single};

const GRAVE: Duration = Duration::from_secs(60);

fn event() -> Entry {
    Entry { name: "revoked".to_owned(), data: "{}".to_owned() }
}

fn fields() -> Vec<(String, String)> {
    vec![("s".to_owned(), "1".to_owned())]
}

#[tokio::test]
async fn an_outage_is_an_error_in_bounded_time_and_over_when_redis_is_back() {
    let Some(mut bench) = redis_single().await else { return };
    let key = Key::new("session", "a");
    bench.store.create(&key, fields(), None).await.unwrap();
    let port = bench.servers[0].port;
    bench.servers[0].kill();
    let started = Instant::now();
    for _ in 0..20 {
        assert!(matches!(bench.store.read_all(&key).await, Err(StoreError::Unavailable(_))));
        assert!(bench.store.revoke(std::slice::from_ref(&key), GRAVE, &event()).await.is_err());
    }
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    let back = Server::start_at(port, &[]).unwrap();
    back.until_up().await;
    eventually("the store answers again", async || bench.store.create(&key, fields(), None).await.is_ok()).await;
    assert!(bench.store.read_all(&key).await.unwrap().is_some());
}

#[tokio::test]
async fn a_server_that_is_there_but_silent_is_an_outage_too() {
    let Some(bench) = redis_single().await else { return };
    let key = Key::new("session", "a");
    bench.store.create(&key, fields(), None).await.unwrap();
    bench.servers[0].signal("-STOP");
    let started = Instant::now();
    let silent = bench.store.read_all(&key).await;
    let no_events = bench.store.next_entries(EventId::default(), Duration::from_millis(100)).await;
    bench.servers[0].signal("-CONT");
    assert!(silent.is_err() && no_events.is_err());
    assert!(started.elapsed() < Duration::from_secs(9), "{:?}", started.elapsed());
    eventually("the store answers again", async || bench.store.read_all(&key).await.is_ok()).await;
}

#[tokio::test]
async fn a_revocation_is_held_by_a_replica_before_it_is_acknowledged() {
    let Some(bench) = redis_single().await else { return };
    let primary = &bench.servers[0];
    let alone = bench.store.revoke(&[Key::new("session", "a")], GRAVE, &event()).await.unwrap();
    assert_eq!(alone.replicas, None);
    let replica = Server::start(&["--replicaof", "127.0.0.1", &primary.port.to_string()]).unwrap();
    replica.until_up().await;
    eventually("the replica is linked", async || {
        let info: String = replica.command(&["INFO", "replication"]).await.unwrap();
        info.contains("master_link_status:up")
    })
    .await;
    let key = Key::new("session", "b");
    bench.store.create(&key, fields(), None).await.unwrap();
    let revocation = bench.store.revoke(std::slice::from_ref(&key), GRAVE, &event()).await.unwrap();
    assert_eq!(revocation.replicas, Some(1));
    let dead: bool = replica.command(&["EXISTS", "test:{b}:session:dead"]).await.unwrap();
    let events: u64 = replica.command(&["XLEN", "test:{events}:stream"]).await.unwrap();
    assert!(dead && events >= 2, "at once, without waiting for the replica");
}

#[tokio::test]
async fn without_the_replica_that_was_demanded_a_revocation_is_not_acknowledged_but_done() {
    let Some(bench) = redis_single().await else { return };
    let demanding =
        RedisConfig { revocation_replicas: Some(1), ..config(vec![bench.servers[0].url()], Topology::Single) };
    let store = RedisStore::new(&demanding).unwrap();
    let key = Key::new("session", "a");
    store.create(&key, fields(), None).await.unwrap();
    let refused = store.revoke(std::slice::from_ref(&key), GRAVE, &event()).await;
    assert!(matches!(refused, Err(StoreError::NotReplicated)));
    assert!(store.read_all(&key).await.unwrap().is_none());
}

#[tokio::test]
async fn what_a_process_left_half_revoked_another_one_finishes() {
    let Some(bench) = redis_single().await else { return };
    let server = &bench.servers[0];
    let key = Key::new("session", "a");
    bench.store.create(&key, fields(), None).await.unwrap();
    let before = bench.store.tail().await.unwrap();
    let intent = Intent { keys: vec![key.clone()], tombstone_ms: 60_000, event: event() };
    let long_ago = format!("1|{}", "");
    let _: () = server.command(&["HSET", "test:{events}:pending", &to_json(&intent), &long_ago]).await.unwrap();
    assert_eq!(bench.store.recover().await.unwrap(), 1);
    assert!(bench.store.is_dead(&key).await.unwrap());
    let told = bench.store.next_entries(before, Duration::from_millis(100)).await.unwrap();
    assert_eq!(told.len(), 1, "and the event is out");
    assert_eq!(bench.store.recover().await.unwrap(), 0);
}

#[tokio::test]
async fn sentinel_failover_is_survived_and_no_acknowledged_revocation_is_forgotten() {
    let Some(mut bench) = redis_single().await else { return };
    let port = bench.servers[0].port.to_string();
    let replica = Server::start(&["--replicaof", "127.0.0.1", &port]).unwrap();
    replica.until_up().await;
    eventually("the replica has caught up", async || {
        replica.command::<String>(&["INFO", "replication"]).await.unwrap().contains("master_link_status:up")
    })
    .await;
    let sentinels: Vec<Server> = (0..3).map(|_| sentinel(&port)).collect();
    for sentinel in &sentinels {
        eventually("the sentinel sees everybody", async || {
            let known = sentinel.command::<String>(&["INFO", "sentinel"]).await.unwrap_or_default();
            known.contains("slaves=1,sentinels=3")
        })
        .await;
    }
    let by_sentinel = RedisConfig {
        sentinel_primary: Some("main".to_owned()),
        ..config(sentinels.iter().map(Server::url).collect(), Topology::Sentinel)
    };
    let store = RedisStore::new(&by_sentinel).unwrap();
    let mut revoked = Vec::new();
    for number in 0..50 {
        let key = Key::new("session", number);
        store.create(&key, fields(), None).await.unwrap();
        let revocation = store.revoke(std::slice::from_ref(&key), GRAVE, &event()).await.unwrap();
        assert_eq!(revocation.replicas, Some(1));
        revoked.push(key);
    }
    bench.servers[0].kill();
    let started = Instant::now();
    eventually("the store writes again", async || {
        store.create(&Key::new("session", started.elapsed().as_micros()), fields(), None).await.is_ok()
    })
    .await;
    for key in &revoked {
        let mut dead = store.is_dead(key).await;
        while dead.is_err() && started.elapsed() < Duration::from_secs(30) {
            dead = store.is_dead(key).await;
        }
        assert!(dead.unwrap(), "{key:?} was forgotten");
    }
    let after = [Key::new("session", "after")];
    eventually("the store revokes again", async || store.revoke(&after, GRAVE, &event()).await.is_ok()).await;
}

fn sentinel(primary: &str) -> Server {
    let text = format!(
        "sentinel monitor main 127.0.0.1 {primary} 2\nsentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n"
    );
    Server::start_with_file(&text, &["--sentinel"]).unwrap()
}

/// The line that the documentation gives.
#[tokio::test]
async fn a_user_with_the_least_rights_is_enough() {
    let Some(bench) = redis_single().await else { return };
    let server = &bench.servers[0];
    let mut rule = vec!["ACL", "SETUSER", "cloakroom", "on", ">secret"];
    let documented = include_str!("../../../../docs/auth-service.md");
    let line =
        documented.lines().find(|line| line.starts_with("user cloakroom ")).expect("the line is in the documentation");
    rule.extend(line.split(' ').skip(2).filter(|word| *word != "on" && !word.starts_with('>')));
    let rule: Vec<String> = rule.into_iter().map(|word| word.replace("~cloakroom:*", "~test:*")).collect();
    let rule: Vec<&str> = rule.iter().map(String::as_str).collect();
    let _: () = server.command(&rule).await.unwrap();
    let url = format!("redis://cloakroom:secret@127.0.0.1:{}", server.port);
    let store = RedisStore::new(&config(vec![url], Topology::Single)).unwrap();
    let key = Key::new("session", "a");
    let last = store.tail().await.unwrap();
    store.create(&key, fields(), Some(GRAVE)).await.unwrap();
    store.update(&key, Update { set: fields(), ttl: Some(GRAVE), ..Update::default() }).await.unwrap();
    store.index_add(&key, "m", Some(GRAVE), None).await.unwrap_err();
    let index = Key::new("records", "a");
    store.index_add(&index, "m", Some(GRAVE), None).await.unwrap();
    store.index_add(&index, "n", None, None).await.unwrap();
    store.index_list(&index, 0, 10).await.unwrap();
    store.index_remove(&index, "m").await.unwrap();
    store.hit(&Key::new("tries", "a"), GRAVE).await.unwrap();
    store.forget_hits(&Key::new("tries", "a")).await.unwrap();
    store.revoke(std::slice::from_ref(&key), GRAVE, &event()).await.unwrap();
    store.next_entries(last, Duration::from_millis(50)).await.unwrap();
    store.backlog(last).await.unwrap();
    store.set_mark("a", "1").await.unwrap();
    store.marks(GRAVE).await.unwrap();
    store.recover().await.unwrap();
    store.take(&key).await.unwrap();
    store.advice().await.unwrap();
    assert!(store.attempt::<Value>(&store.commands, &cmd("KEYS").arg("*").clone()).await.is_err());
}
