//! The ACL user that the documentation gives, and nothing more, on a single server and in a cluster.

use super::*;
use crate::store::contract::servers::redis_cluster;

const DOCUMENTED: &str = include_str!("../../../../../docs/auth-service.md");

/// The line's rights, for the tests' prefix.
fn rights() -> Vec<String> {
    let line = DOCUMENTED.lines().find(|line| line.starts_with("user cloakroom ")).expect("the line is documented");
    let words = line.split(' ').skip(2).filter(|word| *word != "on" && !word.starts_with('>'));
    words.map(|word| word.replace("~cloakroom:*", "~test:*")).collect()
}

/// What the documentation adds for a cluster.
fn rights_in_a_cluster() -> Vec<String> {
    let line = DOCUMENTED.lines().find(|line| line.starts_with("A cluster needs `")).expect("the line is documented");
    let more = line.split('`').nth(1).expect("the rights are in code");
    rights().into_iter().chain(more.split(' ').map(str::to_owned)).collect()
}

async fn add_user(server: &Server, rights: &[String]) {
    let mut rule = vec!["ACL", "SETUSER", "cloakroom", "on", ">secret"];
    rule.extend(rights.iter().map(String::as_str));
    let _: () = server.command(&rule).await.unwrap();
}

/// Every kind of command there is, once.
async fn use_everything(store: &RedisStore) {
    let key = Key::new("session", "a");
    let last = store.tail().await.unwrap();
    store.create(&key, fields(), Some(GRAVE)).await.unwrap();
    store.update(&key, Update { set: fields(), ttl: Some(GRAVE), ..Update::default() }).await.unwrap();
    store.update_durably(&key, Update { unset: vec!["x".to_owned()], ..Update::default() }).await.unwrap();
    store.create_durably(&Key::new("grant", "b"), fields(), Some(GRAVE)).await.unwrap();
    store.read(&key, &["s"]).await.unwrap();
    store.read_all(&key).await.unwrap();
    store.is_dead(&key).await.unwrap();
    store.index_add(&key, "m", Some(GRAVE), None).await.unwrap_err();
    let index = Key::new("records", "a");
    store.index_add(&index, "m", Some(GRAVE), None).await.unwrap();
    store.index_add(&index, "n", None, None).await.unwrap();
    store.index_list(&index, 0, 10).await.unwrap();
    store.index_remove(&index, "m").await.unwrap();
    store.hit(&Key::new("tries", "a"), GRAVE).await.unwrap();
    store.forget_hits(&Key::new("tries", "a")).await.unwrap();
    store.revoke(&[key.clone(), Key::new("grant", "b")], GRAVE, &event()).await.unwrap();
    store.publish(&event()).await.unwrap();
    store.next_entries(last, Duration::from_millis(50)).await.unwrap();
    store.backlog(last).await.unwrap();
    store.set_mark("a", "1").await.unwrap();
    store.marks(GRAVE).await.unwrap();
    store.recover().await.unwrap();
    store.take(&key).await.unwrap();
    store.trail_add(&["{}".to_owned()]).await.unwrap();
    store.trail(None, 10).await.unwrap();
    store.advice().await.unwrap();
}

#[tokio::test]
async fn a_user_with_the_least_rights_is_enough() {
    let Some(bench) = redis_single().await else { return };
    let server = &bench.servers[0];
    add_user(server, &rights()).await;
    let url = format!("redis://cloakroom:secret@127.0.0.1:{}", server.port);
    let store = RedisStore::new(&config(vec![url], Topology::Single)).unwrap();
    use_everything(&store).await;
    for forbidden in [
        cmd("KEYS").arg("*"),
        cmd("FLUSHALL").arg("ASYNC"),
        cmd("CONFIG").arg("GET").arg("*"),
        cmd("HGET").arg("other").arg("x"),
    ] {
        assert!(store.attempt::<Value>(&store.commands, forbidden).await.is_err());
    }
}

#[tokio::test]
async fn a_user_with_the_least_rights_is_enough_in_a_cluster() {
    let Some(bench) = redis_cluster().await else { return };
    for server in &bench.servers {
        add_user(server, &rights_in_a_cluster()).await;
    }
    let urls =
        bench.servers.iter().map(|server| format!("redis://cloakroom:secret@127.0.0.1:{}", server.port)).collect();
    use_everything(&RedisStore::new(&config(urls, Topology::Cluster)).unwrap()).await;
}
