//! What every store must do, run against each of them: in memory, and real Redis servers started here.

mod federation;
pub(super) mod servers;

use std::time::Duration;

use cloakroom_protocol::token::TokenId;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::{Backlog, Created, Entry, EventId, Guard, Key, Store, Update, Updated};
use crate::keys::seal::Sealed;
use crate::record::device::{self, Device};
use crate::record::factors::{self, KeptPasskey, Passkey, Totp};
use crate::record::hash::StoredHash;
use federation::{a_departure_finds_what_began_there_and_nothing_else, an_identity_gets_one_account_of_many};
use servers::{memory, redis_cluster, redis_single};

const HOUR: Option<Duration> = Some(Duration::from_secs(3600));
const GRAVE: Duration = Duration::from_secs(60);

fn fields(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn set(pairs: &[(&str, &str)]) -> Update {
    Update { set: fields(pairs), ..Update::default() }
}

fn event(data: &str) -> Entry {
    Entry { name: "revoked".to_owned(), data: data.to_owned() }
}

/// One module of tests for each store.
macro_rules! contract {
    ($($name:ident),* $(,)?) => {
        contract!(@on memory_store, memory, $($name),*);
        contract!(@on redis, redis_single, $($name),*);
        contract!(@on cluster, redis_cluster, $($name),*);
    };
    (@on $module:ident, $start:ident, $($name:ident),*) => {
        mod $module {
            $(
                #[tokio::test]
                async fn $name() {
                    if let Some(bench) = super::$start().await {
                        super::$name(bench.store.as_ref()).await;
                    }
                }
            )*
        }
    };
}

contract!(
    a_document_is_made_once_and_read_by_its_fields,
    a_change_applies_whole_or_not_at_all,
    only_one_of_many_gets_what_is_taken,
    a_document_and_an_index_member_end_at_their_time,
    a_revoked_document_cannot_come_back,
    the_event_comes_after_the_record_is_gone,
    an_index_lists_in_order_and_obeys_its_guard,
    a_counter_counts_within_its_window,
    a_reader_gets_every_event_once_and_in_order,
    a_reader_resumes_anywhere_and_is_told_of_gaps,
    a_blocked_reader_wakes_at_an_event,
    marks_are_shared_and_age,
    the_trail_is_read_backwards_in_pages_and_stays_bounded,
    strange_text_survives,
    one_of_many_writers_wins,
    a_one_time_code_is_used_by_one_of_many,
    a_recovery_code_is_used_by_one_of_many,
    a_passkeys_use_counts_once,
    a_trusted_browser_is_forgotten_by_its_owner_only,
    an_identity_gets_one_account_of_many,
    a_departure_finds_what_began_there_and_nothing_else,
);

async fn a_document_is_made_once_and_read_by_its_fields(store: &dyn Store) {
    let key = Key::new("session", "a");
    assert_eq!(store.read(&key, &["s"]).await.unwrap(), None);
    assert_eq!(store.create(&key, fields(&[("s", "1"), ("u", "2")]), HOUR).await.unwrap(), Created::Yes);
    assert_eq!(store.create(&key, fields(&[("s", "9")]), HOUR).await.unwrap(), Created::Exists);
    let read = store.read(&key, &["u", "x", "s"]).await.unwrap().unwrap();
    assert_eq!(read, [Some("2".to_owned()), None, Some("1".to_owned())]);
    assert_eq!(store.read_all(&key).await.unwrap().unwrap().len(), 2);
    assert_eq!(store.read(&Key::new("grant", "a"), &["s"]).await.unwrap(), None, "kinds are apart");
}

async fn a_change_applies_whole_or_not_at_all(store: &dyn Store) {
    let key = Key::new("session", "a");
    assert_eq!(store.update(&key, set(&[("x", "1")])).await.unwrap(), Updated::Missing);
    assert_eq!(store.upsert(&key, set(&[("x", "1"), ("y", "1")])).await.unwrap(), Updated::Yes);
    let guarded = |field: &str, held: Option<&str>| Update {
        require: vec![(field.to_owned(), held.map(str::to_owned))],
        set: fields(&[("x", "2")]),
        unset: vec!["y".to_owned()],
        ttl: HOUR,
    };
    assert_eq!(store.update(&key, guarded("x", Some("7"))).await.unwrap(), Updated::Conflict);
    assert_eq!(store.update(&key, guarded("x", None)).await.unwrap(), Updated::Conflict);
    assert_eq!(store.update(&key, guarded("z", Some(""))).await.unwrap(), Updated::Conflict, "absent is not empty");
    assert_eq!(store.read_all(&key).await.unwrap().unwrap()["x"], "1");
    assert_eq!(store.update(&key, guarded("z", None)).await.unwrap(), Updated::Yes);
    let held = store.read_all(&key).await.unwrap().unwrap();
    assert_eq!((held.len(), held["x"].as_str()), (1, "2"));
    let impossible = Update { require: vec![("x".to_owned(), Some("1".to_owned()))], ..set(&[("x", "3")]) };
    assert_eq!(store.upsert(&Key::new("session", "new"), impossible).await.unwrap(), Updated::Conflict);
}

async fn only_one_of_many_gets_what_is_taken(store: &dyn Store) {
    let key = Key::new("code", "a");
    store.create(&key, fields(&[("d", "1")]), HOUR).await.unwrap();
    let all = futures::future::join_all((0..10).map(|_| store.take(&key))).await;
    assert_eq!(all.into_iter().filter(|taken| taken.as_ref().unwrap().is_some()).count(), 1);
    assert_eq!(store.create(&key, fields(&[("d", "2")]), HOUR).await.unwrap(), Created::Yes, "taking is not revoking");
}

async fn a_document_and_an_index_member_end_at_their_time(store: &dyn Store) {
    let (key, index) = (Key::new("session", "a"), Key::new("records", "u"));
    let soon = Some(Duration::from_millis(1500));
    store.create(&key, fields(&[("s", "1")]), soon).await.unwrap();
    store.create(&Key::new("session", "b"), fields(&[("s", "1")]), soon).await.unwrap();
    store.update(&Key::new("session", "b"), Update { ttl: HOUR, ..set(&[("u", "1")]) }).await.unwrap();
    store.index_add(&index, "gone", soon, None).await.unwrap();
    store.index_add(&index, "stays", HOUR, None).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1700)).await;
    assert_eq!(store.read_all(&key).await.unwrap(), None);
    assert!(store.read_all(&Key::new("session", "b")).await.unwrap().is_some(), "its life was made longer");
    assert_eq!(store.index_list(&index, 0, usize::MAX).await.unwrap(), ["stays"]);
    assert_eq!(store.update(&key, set(&[("s", "2")])).await.unwrap(), Updated::Missing);
    assert_eq!(store.create(&key, fields(&[("s", "1")]), HOUR).await.unwrap(), Created::Yes, "expired is not revoked");
}

async fn a_revoked_document_cannot_come_back(store: &dyn Store) {
    let (key, absent) = (Key::new("session", "a"), Key::new("session", "never"));
    store.create(&key, fields(&[("s", "1")]), HOUR).await.unwrap();
    let revocation = store.revoke(&[key.clone(), absent.clone()], GRAVE, &event("{}")).await.unwrap();
    assert_eq!(revocation.removed[0].as_ref().unwrap()["s"], "1");
    assert!(revocation.removed[1].is_none());
    for key in [&key, &absent] {
        assert!(store.is_dead(key).await.unwrap());
        assert_eq!(store.create(key, fields(&[("s", "1")]), HOUR).await.unwrap(), Created::Dead);
        assert_eq!(store.update(key, set(&[("u", "1")])).await.unwrap(), Updated::Missing);
        assert_eq!(store.upsert(key, set(&[("u", "1")])).await.unwrap(), Updated::Missing);
        assert_eq!(store.read_all(key).await.unwrap(), None);
    }
    let again = store.revoke(std::slice::from_ref(&key), GRAVE, &event("{}")).await.unwrap();
    assert!(again.removed[0].is_none() && again.event > revocation.event, "repeating it announces it again");
    store.revoke(&[Key::new("session", "brief")], Duration::from_millis(50), &event("{}")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(120)).await;
    assert!(!store.is_dead(&Key::new("session", "brief")).await.unwrap());
}

async fn the_event_comes_after_the_record_is_gone(store: &dyn Store) {
    let start = store.tail().await.unwrap();
    for round in 0..20 {
        let key = Key::new("session", round);
        store.create(&key, fields(&[("s", "1")]), HOUR).await.unwrap();
        let reader = async {
            let mut last = start;
            loop {
                for entry in store.next_entries(last, Duration::from_millis(500)).await.unwrap() {
                    last = entry.id;
                    if entry.entry.data == round.to_string() {
                        return store.read_all(&key).await.unwrap();
                    }
                }
            }
        };
        let entry = event(&round.to_string());
        let keys = [key.clone()];
        let (seen, revoked) = tokio::join!(reader, store.revoke(&keys, GRAVE, &entry));
        revoked.unwrap();
        assert_eq!(seen, None, "nothing that starts after the event finds the record");
    }
}

async fn an_index_lists_in_order_and_obeys_its_guard(store: &dyn Store) {
    let (user, index) = (Key::new("user", "u"), Key::new("records", "u"));
    store.create(&user, fields(&[("e", "1")]), None).await.unwrap();
    let guard = |value: &str| Some(Guard { key: user.clone(), field: "e".to_owned(), value: value.to_owned() });
    assert!(store.index_add(&index, "b", HOUR, guard("1")).await.unwrap());
    assert!(!store.index_add(&index, "x", HOUR, guard("2")).await.unwrap());
    let nobody = Some(Guard { key: Key::new("other", "u"), field: "e".to_owned(), value: String::new() });
    assert!(!store.index_add(&index, "x", HOUR, nobody).await.unwrap());
    store.index_add(&index, "a", None, None).await.unwrap();
    store.index_add(&index, "c", None, None).await.unwrap();
    assert_eq!(store.index_list(&index, 0, usize::MAX).await.unwrap(), ["b", "a", "c"], "by end, then by name");
    assert_eq!(store.index_list(&index, 1, 1).await.unwrap(), ["a"]);
    store.index_remove(&index, "a").await.unwrap();
    assert_eq!(store.index_list(&index, 0, 10).await.unwrap(), ["b", "c"]);
    store.index_add(&index, "b", None, None).await.unwrap();
    assert_eq!(store.index_list(&index, 0, 10).await.unwrap(), ["b", "c"], "moved, not doubled");
}

async fn a_counter_counts_within_its_window(store: &dyn Store) {
    let counter = Key::new("tries", "a");
    let window = Duration::from_secs(3);
    assert_eq!(store.hit(&counter, window).await.unwrap(), 1);
    tokio::time::sleep(Duration::from_millis(1600)).await;
    assert_eq!(store.hit(&counter, window).await.unwrap(), 2);
    tokio::time::sleep(Duration::from_millis(1600)).await;
    assert_eq!(store.hit(&counter, window).await.unwrap(), 1, "the window began with the first");
    store.forget_hits(&counter).await.unwrap();
    assert_eq!(store.hit(&counter, window).await.unwrap(), 1);
}

async fn a_reader_gets_every_event_once_and_in_order(store: &dyn Store) {
    let mut last = store.tail().await.unwrap();
    assert_eq!(store.tail().await.unwrap(), last, "asking does not write");
    let written: Vec<EventId> = {
        let mut ids = Vec::new();
        for number in 0..50 {
            ids.push(store.publish(&event(&number.to_string())).await.unwrap());
        }
        ids
    };
    assert!(written.is_sorted() && last < written[0]);
    let mut read = Vec::new();
    while read.len() < 50 {
        let entries = store.next_entries(last, Duration::from_millis(500)).await.unwrap();
        last = entries.last().unwrap().id;
        read.extend(entries);
    }
    assert_eq!(read.iter().map(|entry| entry.id).collect::<Vec<_>>(), written);
    assert_eq!(read[7].entry, event("7"));
    assert_eq!(store.next_entries(last, Duration::from_millis(20)).await.unwrap(), []);
}

async fn a_reader_resumes_anywhere_and_is_told_of_gaps(store: &dyn Store) {
    let start = store.tail().await.unwrap();
    let first = store.publish(&event("1")).await.unwrap();
    let second = store.publish(&event("2")).await.unwrap();
    let ids = |backlog| match backlog {
        Backlog::Entries(entries) => entries.into_iter().map(|entry| entry.id).collect::<Vec<_>>(),
        Backlog::Gap { .. } => panic!("a gap"),
    };
    assert_eq!(ids(store.backlog(start).await.unwrap()), [first, second]);
    assert_eq!(ids(store.backlog(first).await.unwrap()), [second]);
    assert_eq!(ids(store.backlog(second).await.unwrap()), []);
    let gap = Backlog::Gap { tail: second };
    let lost = EventId { millis: second.millis + 60_000, sequence: 0 };
    assert_eq!(store.backlog(lost).await.unwrap(), gap, "the store has lost what came up to it");
    let trimmed = EventId { millis: 1, sequence: 0 };
    assert_eq!(store.backlog(trimmed).await.unwrap(), gap, "it is no longer known what came after it");
}

async fn a_blocked_reader_wakes_at_an_event(store: &dyn Store) {
    let last = store.tail().await.unwrap();
    let started = tokio::time::Instant::now();
    let write = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        store.publish(&event("x")).await.unwrap()
    };
    let (entries, id) = tokio::join!(store.next_entries(last, Duration::from_secs(1)), write);
    assert_eq!(entries.unwrap()[0].id, id);
    assert!(started.elapsed() < Duration::from_millis(950), "{:?}", started.elapsed());
}

async fn marks_are_shared_and_age(store: &dyn Store) {
    store.set_mark("a", "1|x").await.unwrap();
    tokio::time::sleep(Duration::from_millis(2100)).await;
    store.set_mark("b", "2").await.unwrap();
    let marks = store.marks(Duration::from_secs(60)).await.unwrap();
    assert_eq!((marks["a"].as_str(), marks["b"].as_str()), ("1|x", "2"));
    let marks = store.marks(Duration::from_secs(2)).await.unwrap();
    assert_eq!((marks.len(), marks["b"].as_str()), (1, "2"));
}

async fn strange_text_survives(store: &dyn Store) {
    for text in ["", " ", "\n\0\u{7f}", "{brace}", "|", "\u{1f9e5}", "-1", "nil"] {
        let key = Key::new("user", text);
        store.create(&key, fields(&[("f", text)]), HOUR).await.unwrap();
        assert_eq!(store.read_all(&key).await.unwrap().unwrap()["f"], text, "{text:?}");
        store.index_add(&Key::new("records", text), text, HOUR, None).await.unwrap();
        assert_eq!(store.index_list(&Key::new("records", text), 0, 9).await.unwrap(), [text]);
        store.take(&key).await.unwrap();
    }
}

async fn one_of_many_writers_wins(store: &dyn Store) {
    let key = Key::new("session", "a");
    store.create(&key, fields(&[("v", "0")]), HOUR).await.unwrap();
    let write = |number: usize| {
        let key = key.clone();
        async move {
            let update = Update {
                require: vec![("v".to_owned(), Some("0".to_owned()))],
                ..set(&[("v", &(number + 1).to_string())])
            };
            store.update(&key, update).await.unwrap()
        }
    };
    let done = futures::future::join_all((0..20).map(write)).await;
    assert_eq!(done.iter().filter(|done| **done == Updated::Yes).count(), 1);
    assert_eq!(done.iter().filter(|done| **done == Updated::Conflict).count(), 19);
}

async fn a_one_time_code_is_used_by_one_of_many(store: &dyn Store) {
    let totp = Totp { seed: Sealed::default(), created: 1 };
    factors::set_totp(store, "u", &totp, 100).await.unwrap();
    let held = factors::load(store, "u").await.unwrap();
    assert!(!factors::use_step(store, "u", &held, 100, None).await.unwrap(), "it confirmed the app");
    let all = futures::future::join_all((0..10).map(|_| factors::use_step(store, "u", &held, 101, None))).await;
    assert_eq!(all.into_iter().filter(|used| *used.as_ref().unwrap()).count(), 1);
    let held = factors::load(store, "u").await.unwrap();
    assert!(!factors::use_step(store, "u", &held, 101, None).await.unwrap());
    assert!(!factors::use_step(store, "u", &held, 99, None).await.unwrap(), "nor an earlier one");
    assert!(factors::use_step(store, "u", &held, 102, Some(&totp)).await.unwrap());
    let stale = held;
    factors::remove_totp(store, "u", &stale).await.unwrap();
    assert!(!factors::use_step(store, "u", &stale, 103, None).await.unwrap(), "removed is removed");
    assert!(!factors::load(store, "u").await.unwrap().is_enrolled());
}

async fn a_recovery_code_is_used_by_one_of_many(store: &dyn Store) {
    let codes = ["a", "b"].map(StoredHash::of_secret);
    factors::set_totp(store, "u", &Totp { seed: Sealed::default(), created: 1 }, 1).await.unwrap();
    factors::set_recovery_codes(store, "u", &codes).await.unwrap();
    let held = factors::load(store, "u").await.unwrap();
    assert_eq!(held.recovery_codes, 2);
    let all =
        futures::future::join_all((0..10).map(|_| factors::use_recovery_code(store, "u", &held, &codes[0]))).await;
    assert_eq!(all.into_iter().filter(|used| *used.as_ref().unwrap()).count(), 1);
    let held = factors::load(store, "u").await.unwrap();
    assert!(!factors::use_recovery_code(store, "u", &held, &codes[0]).await.unwrap());
    factors::set_recovery_codes(store, "u", &[StoredHash::of_secret("c")]).await.unwrap();
    assert!(!factors::use_recovery_code(store, "u", &held, &codes[1]).await.unwrap(), "replaced meanwhile");
    factors::forget_all(store, "u").await.unwrap();
    assert_eq!(factors::load(store, "u").await.unwrap().recovery_codes, 0);
}

async fn a_passkeys_use_counts_once(store: &dyn Store) {
    let kept = |created| KeptPasskey {
        name: "phone".to_owned(),
        public_key: String::new(),
        algorithm: -7,
        count: 1,
        backed_up: false,
        created,
        last_used: 1,
    };
    for (id, created) in [("b", 1), ("a", 2)] {
        factors::add_passkey(store, "u", &Passkey::new(id.to_owned(), kept(created))).await.unwrap();
    }
    let held = factors::load(store, "u").await.unwrap();
    let ids: Vec<&str> = held.passkeys.iter().map(|passkey| passkey.id.as_str()).collect();
    assert_eq!((ids, held.is_enrolled()), (vec!["b", "a"], true));
    let key = &held.passkeys[0];
    let all = futures::future::join_all((2..12).map(|count| factors::use_passkey(store, "u", key, count, 9))).await;
    assert_eq!(all.into_iter().filter(|used| *used.as_ref().unwrap()).count(), 1);
    factors::set_recovery_codes(store, "u", &[StoredHash::of_secret("x")]).await.unwrap();
    factors::remove_passkey(store, "u", &held, "b").await.unwrap();
    assert!(!factors::use_passkey(store, "u", key, 99, 9).await.unwrap(), "a late use does not bring it back");
    let held = factors::load(store, "u").await.unwrap();
    assert_eq!((held.passkeys.len(), held.recovery_codes), (1, 1));
    factors::remove_passkey(store, "u", &held, "a").await.unwrap();
    let held = factors::load(store, "u").await.unwrap();
    assert_eq!((held.is_enrolled(), held.recovery_codes), (false, 0), "codes go with the last factor");
}

async fn a_trusted_browser_is_forgotten_by_its_owner_only(store: &dyn Store) {
    let mut rng = StdRng::seed_from_u64(1);
    let ids: Vec<TokenId> = (0..3).map(|_| TokenId::generate(&mut rng)).collect();
    let device = |sub: &str| Device {
        sub: sub.to_owned(),
        secret: StoredHash::of_secret("x"),
        created: 1,
        user_agent: String::new(),
        address: String::new(),
    };
    for (id, sub) in ids.iter().zip(["u", "u", "v"]) {
        device::create(store, *id, &device(sub), Duration::from_secs(3600)).await.unwrap();
    }
    device::touch(store, ids[0], 9).await.unwrap();
    assert_eq!(device::load(store, ids[0]).await.unwrap().unwrap().last_used, 9);
    assert!(!device::forget(store, "v", ids[0]).await.unwrap());
    assert!(device::forget(store, "u", ids[0]).await.unwrap());
    assert_eq!(device::list(store, "u").await.unwrap().len(), 1);
    device::touch(store, ids[0], 10).await.unwrap();
    assert!(device::load(store, ids[0]).await.unwrap().is_none(), "a late use does not bring it back");
    device::forget_all(store, "u").await.unwrap();
    assert!(device::list(store, "u").await.unwrap().is_empty());
    assert_eq!(device::list(store, "v").await.unwrap().len(), 1);
}

async fn the_trail_is_read_backwards_in_pages_and_stays_bounded(store: &dyn Store) {
    assert_eq!(store.trail(None, 10).await.unwrap(), []);
    let lines: Vec<String> = (0..5).map(|number| format!("line {number}")).collect();
    store.trail_add(&lines).await.unwrap();
    let first = store.trail(None, 3).await.unwrap();
    let second = store.trail(first.last().map(|(id, _)| *id), 3).await.unwrap();
    let texts: Vec<&str> = first.iter().chain(&second).map(|(_, line)| line.as_str()).collect();
    assert_eq!(texts, ["line 4", "line 3", "line 2", "line 1", "line 0"]);
    for _ in 0..30 {
        store.trail_add(&vec!["more".to_owned(); 500]).await.unwrap();
    }
    let kept = store.trail(None, 50_000).await.unwrap().len();
    // Redis trims whole nodes of a hundred entries.
    assert!((super::TRAIL_LENGTH..super::TRAIL_LENGTH + 200).contains(&kept), "{kept}");
}
