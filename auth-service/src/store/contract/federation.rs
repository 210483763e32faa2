//! Identities at other providers, and the sessions that began with them.

use std::time::Duration;

use cloakroom_protocol::token::TokenId;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::record::federated::{self, Connected, Identity};
use crate::record::origin::{self, Departure, Origin};
use crate::store::Store;

const ISSUER: &str = "https://idp.example.com";

fn identity(sub: &str) -> Identity {
    Identity {
        issuer: ISSUER.to_owned(),
        sub: sub.to_owned(),
        made: false,
        shown: sub.to_owned(),
        since: 1,
        used: 1,
        groups: Vec::new(),
        roles: Vec::new(),
    }
}

pub(super) async fn an_identity_gets_one_account_of_many(store: &dyn Store) {
    let (users, a) = ((0..10).map(|user| format!("u{user}")).collect::<Vec<_>>(), identity("a"));
    let all = futures::future::join_all(users.iter().map(|user| federated::connect(store, user, "corp", &a))).await;
    assert_eq!(all.iter().filter(|one| *one.as_ref().unwrap() == Connected::Yes).count(), 1);
    let (owner, held) = federated::owner(store, "corp", ISSUER, "a").await.unwrap().unwrap();
    for user in users.iter().filter(|user| **user != owner) {
        assert!(federated::of_account(store, user).await.unwrap().is_empty(), "nothing is left with the others");
    }
    assert_eq!(federated::owner(store, "corp", "https://other.example.com", "a").await.unwrap().map(|one| one.0), None);
    assert_eq!(federated::owner(store, "other", ISSUER, "a").await.unwrap().map(|one| one.0), None);
    assert_eq!(federated::connect(store, &owner, "corp", &a).await.unwrap(), Connected::Yes, "again is no error");
    assert_eq!(federated::connect(store, &owner, "corp", &identity("b")).await.unwrap(), Connected::Occupied);
    let stranger = federated::connect(store, "stranger", "corp", &a).await.unwrap();
    assert_eq!(stranger, Connected::Taken);

    let used = Identity { used: 2, ..a.clone() };
    let renewed = federated::renew(store, &owner, "corp", &held, &used).await.unwrap().unwrap();
    assert!(federated::renew(store, &owner, "corp", &held, &used).await.unwrap().is_none(), "it is another one by now");
    assert!(!federated::disconnect(store, &owner, "corp", &held, None).await.unwrap());
    let spare = Some(("other", &renewed));
    assert!(!federated::disconnect(store, &owner, "corp", &renewed, spare).await.unwrap(), "the other one is gone");
    assert!(federated::disconnect(store, &owner, "corp", &renewed, None).await.unwrap());
    assert!(federated::owner(store, "corp", ISSUER, "a").await.unwrap().is_none());
    assert_eq!(federated::connect(store, "stranger", "corp", &a).await.unwrap(), Connected::Yes);
    federated::forget_all(store, "stranger").await.unwrap();
    assert!(federated::owner(store, "corp", ISSUER, "a").await.unwrap().is_none());
    assert_eq!(federated::connect(store, "new", "corp", &a).await.unwrap(), Connected::Yes);
}

pub(super) async fn a_departure_finds_what_began_there_and_nothing_else(store: &dyn Store) {
    let mut rng = StdRng::seed_from_u64(1);
    let ids: Vec<TokenId> = (0..4).map(|_| TokenId::generate(&mut rng)).collect();
    let origin = |sub: &str, sid: Option<&str>| Origin {
        issuer: ISSUER.to_owned(),
        sub: sub.to_owned(),
        sid: sid.map(str::to_owned),
        at: 100,
    };
    let began = [origin("a", Some("1")), origin("a", Some("2")), origin("a", None), origin("b", Some("3"))];
    for (id, origin) in ids.iter().zip(&began) {
        origin::index(store, origin, *id, Duration::from_secs(3600)).await.unwrap();
    }
    let leave = async |issuer, sub, sid, at| {
        let mut gone = origin::depart(store, &Departure { issuer, sub, sid, at }).await.unwrap();
        gone.sort_by_key(|id| ids.iter().position(|one| one == id));
        gone
    };
    assert_eq!(leave("https://other.example.com", Some("a"), Some("1"), 99).await, []);
    assert!(!origin::has_ended(store, &began[0]).await.unwrap());
    assert_eq!(leave(ISSUER, None, Some("1"), 99).await, [ids[0]]);
    assert!(origin::has_ended(store, &began[0]).await.unwrap(), "a session of theirs that has ended has ended");
    assert_eq!(leave(ISSUER, Some("a"), Some("2"), 99).await, [ids[1], ids[2]], "and what they gave no name");
    assert_eq!(leave(ISSUER, Some("a"), None, 99).await, ids[..3]);
    assert!(!origin::has_ended(store, &began[2]).await.unwrap(), "somebody who has come since");
    assert_eq!(leave(ISSUER, Some("a"), None, 100).await, ids[..3]);
    assert!(origin::has_ended(store, &began[2]).await.unwrap());
    assert!(!origin::has_ended(store, &began[3]).await.unwrap());
    origin::forget(store, &began[2], ids[2]).await.unwrap();
    assert_eq!(leave(ISSUER, Some("a"), None, 100).await, ids[..2]);
    let life = Duration::from_secs(60);
    let first = futures::future::join_all((0..5).map(|_| origin::first_use(store, ISSUER, "j", life))).await;
    assert_eq!(first.into_iter().filter(|first| *first.as_ref().unwrap()).count(), 1);
    origin::not_used(store, ISSUER, "j").await.unwrap();
    assert!(origin::first_use(store, ISSUER, "j", life).await.unwrap());
}
