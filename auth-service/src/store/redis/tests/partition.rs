//! A primary cut off from its replicas and sentinels, while part of us still reaches it: it must acknowledge nothing that the others do not
//! come to know.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::failover::{follower, sentinel};
use super::*;

/// The network between the primary and the others.
struct Wire {
    port: u16,
    cut: Arc<AtomicBool>,
    changed: Arc<Notify>,
}

impl Wire {
    async fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (cut, changed) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
        let (is_cut, waker) = (Arc::clone(&cut), Arc::clone(&changed));
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (is_cut, waker) = (Arc::clone(&is_cut), Arc::clone(&waker));
                tokio::spawn(async move {
                    let cut = waker.notified();
                    if is_cut.load(Ordering::Relaxed) {
                        return;
                    }
                    let Ok(mut far) = TcpStream::connect(("127.0.0.1", target)).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        () = cut => {}
                    }
                });
            }
        });
        Self { port, cut, changed }
    }

    fn cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::Relaxed);
        self.changed.notify_waiters();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_on_the_wrong_side_of_a_partition_acknowledges_nothing_that_the_others_do_not_know() {
    let safe = ["--min-replicas-to-write", "1", "--min-replicas-max-lag", "2"];
    let Some(primary) = Server::start(&safe) else { return };
    primary.until_up().await;
    let wire = Wire::to(primary.port).await;
    let replica = follower(&wire.port.to_string()).await;
    let sentinels: Vec<Server> = (0..3).map(|_| sentinel(&wire.port.to_string())).collect();
    for sentinel in &sentinels {
        eventually("the sentinel sees everybody", async || {
            let known = sentinel.command::<String>(&["INFO", "sentinel"]).await.unwrap_or_default();
            known.contains("slaves=1,sentinels=3")
        })
        .await;
    }
    // One of us sits beside the old primary; two ways of asking for safety, either of which must be enough.
    let beside = |replicas: Option<u32>| RedisConfig {
        revocation_replicas: replicas,
        ..config(vec![primary.url()], Topology::Single)
    };
    let minority = [RedisStore::new(&beside(Some(1))).unwrap(), RedisStore::new(&beside(None)).unwrap()];
    let majority = RedisStore::new(&RedisConfig {
        sentinel_primary: Some("main".to_owned()),
        ..config(sentinels.iter().map(Server::url).collect(), Topology::Sentinel)
    })
    .unwrap();
    eventually("the primary takes writes", async || minority[0].set_mark("a", "1").await.is_ok()).await;
    let mut sessions = Vec::new();
    for number in 0..200 {
        let key = Key::new("session", number);
        minority[0].create_durably(&key, fields(), None).await.unwrap();
        sessions.push(key);
    }

    wire.cut(true);
    let mut acknowledged = Vec::new();
    let mut refused = 0;
    let mut left = sessions.iter();
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(3) {
        for store in &minority {
            let Some(key) = left.next() else { break };
            match store.revoke(std::slice::from_ref(key), GRAVE, &event()).await {
                Ok(_) => acknowledged.push(key.clone()),
                Err(_) => refused += 1,
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // A heartbeat needs a write: whose lease hangs on this primary loses it.
    eventually("no heartbeat comes from there", async || minority[1].set_mark("a", "2").await.is_err()).await;
    eventually("the others have a primary", async || {
        let info = replica.command::<String>(&["INFO", "replication"]).await.unwrap_or_default();
        info.contains("role:master")
    })
    .await;
    let mut known = 0;
    for key in &acknowledged {
        eventually("the new primary answers", async || majority.is_dead(key).await.is_ok()).await;
        assert!(majority.is_dead(key).await.unwrap(), "{key:?} was acknowledged there and is not known here");
        known += 1;
    }
    println!(
        "in the partition: {known} revocations acknowledged, all of them known on the other side; {refused} refused"
    );
    assert!(refused > 0);

    wire.cut(false);
    eventually("the old primary follows the new one", async || {
        primary.command::<String>(&["INFO", "replication"]).await.unwrap_or_default().contains("role:slave")
    })
    .await;
    for key in &acknowledged {
        assert!(majority.is_dead(key).await.unwrap());
    }
}
