//! What only real servers show: outages, failover, replication, rights.

mod failover;
mod memory;
mod partition;
mod rights;
mod tls;

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
async fn a_slow_server_is_waited_for_within_reason() {
    let Some(bench) = redis_single().await else { return };
    let key = Key::new("session", "a");
    bench.store.create(&key, fields(), None).await.unwrap();
    let _: () = bench.servers[0].command(&["CLIENT", "PAUSE", "700", "ALL"]).await.unwrap();
    let started = Instant::now();
    // On a machine that is busy as well this may be too slow for it: an error then, and never an empty answer.
    if let Ok(found) = bench.store.read_all(&key).await {
        assert!(found.is_some() && started.elapsed() > Duration::from_millis(300), "{:?}", started.elapsed());
    }
    eventually("the store answers", async || bench.store.read_all(&key).await.is_ok_and(|found| found.is_some())).await;
}

#[tokio::test]
async fn a_write_that_no_replica_confirmed_is_not_acknowledged_whatever_it_is() {
    let Some(bench) = redis_single().await else { return };
    let demanding =
        RedisConfig { revocation_replicas: Some(1), ..config(vec![bench.servers[0].url()], Topology::Single) };
    let store = RedisStore::new(&demanding).unwrap();
    let key = Key::new("session", "a");
    assert!(matches!(store.create_durably(&key, fields(), None).await, Err(StoreError::NotReplicated)));
    let set = Update { set: fields(), ..Update::default() };
    assert!(matches!(store.update_durably(&key, set.clone()).await, Err(StoreError::NotReplicated)));
    assert!(matches!(
        store.index_add(&Key::new("records", "a"), "m", None, None).await,
        Err(StoreError::NotReplicated)
    ));
    assert_eq!(store.update(&key, set).await.unwrap(), Updated::Yes, "and what is not durable does not wait");
}

/// After a failover a new connection confirms any `WAIT`: it must not be asked about what another one wrote.
#[tokio::test]
async fn a_confirmation_is_never_taken_from_another_connection_than_the_one_that_wrote() {
    let Some(bench) = redis_single().await else { return };
    let demanding =
        RedisConfig { revocation_replicas: Some(1), ..config(vec![bench.servers[0].url()], Topology::Single) };
    let store = RedisStore::new(&demanding).unwrap();
    // Cuts the connection while it waits for the replica that is not there: the one opened next has written nothing.
    let cutting = async {
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let _: () =
                bench.servers[0].command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await.unwrap_or(());
        }
    };
    let key = Key::new("session", "a");
    let event = event();
    let (outcome, ()) = tokio::join!(store.revoke(std::slice::from_ref(&key), GRAVE, &event), cutting);
    assert!(outcome.is_err(), "{outcome:?}");
}
