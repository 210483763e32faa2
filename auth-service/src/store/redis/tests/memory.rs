//! A server whose memory is full, or that would forget instead; and what a session costs.

use super::*;
use crate::clock::Clock;
use crate::random::Random;
use crate::record::hash::StoredHash;
use crate::record::session::{self, Facts, Seat, Session, Terms};
use crate::record::user::{Details, ProfileDetails, User};

async fn set(server: &Server, name: &str, value: &str) {
    let _: () = server.command(&["CONFIG", "SET", name, value]).await.unwrap();
}

#[tokio::test]
async fn with_its_memory_full_nothing_begins_nothing_is_lost_and_signing_out_works() {
    let Some(bench) = redis_single().await else { return };
    let (store, server) = (&bench.store, &bench.servers[0]);
    let (kept, ended) = (Key::new("session", "kept"), Key::new("session", "ended"));
    for key in [&kept, &ended] {
        store.create(key, fields(), None).await.unwrap();
    }
    let last = store.tail().await.unwrap();
    let used: String = server.command(&["INFO", "memory"]).await.unwrap();
    let used: u64 = used.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap().trim().parse().unwrap();
    set(server, "maxmemory-policy", "noeviction").await;
    set(server, "maxmemory", &(used / 2).to_string()).await;

    let refused = store.create(&Key::new("session", "new"), fields(), None).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "503: {refused:?}");
    assert!(store.hit(&Key::new("tries", "a"), GRAVE).await.is_err(), "no guess goes uncounted");
    assert!(store.read_all(&kept).await.unwrap().is_some(), "whoever is signed in stays so");
    store.set_mark("replica", "1").await.expect("heartbeats go on, which need a write");
    store.revoke(std::slice::from_ref(&ended), GRAVE, &event()).await.expect("and so does signing out");
    assert!(store.is_dead(&ended).await.unwrap());
    assert_eq!(store.next_entries(last, Duration::from_millis(500)).await.unwrap().len(), 1, "of which sidecars hear");

    set(server, "maxmemory", "0").await;
    store.create(&Key::new("session", "new"), fields(), None).await.unwrap();
}

#[tokio::test]
async fn a_server_that_would_rather_forget_is_warned_of() {
    let Some(bench) = redis_single().await else { return };
    assert_eq!(bench.store.advice().await.unwrap(), Vec::<String>::new());
    set(&bench.servers[0], "maxmemory", "1gb").await;
    for policy in ["allkeys-lru", "volatile-lru", "volatile-ttl", "allkeys-random"] {
        set(&bench.servers[0], "maxmemory-policy", policy).await;
        let advice = bench.store.advice().await.unwrap();
        assert!(advice.iter().any(|sentence| sentence.contains("noeviction")), "{policy}: {advice:?}");
    }
}

/// What docs/capacity.md counts with: a session at two policies, with its place in the user's index.
#[tokio::test]
async fn a_session_stays_within_the_memory_that_is_documented() {
    const DOCUMENTED: u64 = 2048;
    let Some(bench) = redis_single().await else { return };
    let (store, server) = (bench.store.as_ref(), &bench.servers[0]);
    let random = Random::seeded(1);
    let now = Clock::system().seconds();
    let profile = ProfileDetails {
        name: Some("Ann Example".to_owned()),
        email: Some("ann@example.com".to_owned()),
        groups: vec!["staff".to_owned()],
        roles: vec!["buyer".to_owned()],
        ..ProfileDetails::default()
    };
    let details = Details { username: "ann".to_owned(), profile, created: now, disabled: false };
    let id = || random.with(cloakroom_protocol::token::TokenId::generate);
    let user = User { id: id().to_string(), details, epoch: 1, password: None };
    assert!(crate::record::user::create(store, &user).await.unwrap());
    let hash = || StoredHash::of_secret(&random.secret());
    let mut session = Session {
        id: id(),
        facts: Facts {
            sub: user.id.clone(),
            auth_time: now,
            acr: "mfa".to_owned(),
            amr: vec!["pwd".to_owned(), "otp".to_owned(), "mfa".to_owned()],
            sso: hash(),
            user_agent:
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"
                    .to_owned(),
            address: "2001:db8:1234:5678:9abc:def0:1234:5678".to_owned(),
            origin: None,
        },
        last_used: now,
        longest_idle: 28_800,
        end: now + 86_400,
        profile: user.profile(),
    };
    session::create(store, &user, &session, now).await.unwrap();
    for client in ["shop/web", "warehouse/stock"] {
        let seat = Seat { secret: hash(), issued: now };
        session::seat(store, &user, &mut session, (client, &seat), Terms { idle: 1800, absolute: 43_200 }, now)
            .await
            .unwrap();
    }
    let usage = async |key: &Key| -> u64 {
        server.command(&["MEMORY", "USAGE", &key.render("test:"), "SAMPLES", "0"]).await.unwrap()
    };
    let of_session = usage(&session::key(session.id)).await;
    let of_index = usage(&crate::record::records_of(&user.id)).await;
    println!("a session at two policies: {of_session} bytes, and {of_index} in the user's index");
    assert!(of_session + of_index <= DOCUMENTED, "{of_session} + {of_index} bytes");
}
