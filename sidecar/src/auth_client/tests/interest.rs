//! What a sidecar says it holds, and what it does when that is not heeded.

use cloakroom_protocol::interest::Key;

use super::*;

/// Connected to the replica that has the stream, with a lease.
async fn named(confirms: bool) -> Fixture {
    let mut f = Fixture::leased().await;
    f.fake.with(|told| (told.stream_name, told.confirms) = (Some("s1"), confirms));
    f.reopen().await;
    f
}

impl Fixture {
    async fn reopen(&mut self) {
        self.fake.end_stream();
        self.until(|f| f.client.metrics.stream_open.get() == 0).await;
        self.pass(1, false).await;
        self.until(|f| f.client.metrics.stream_open.get() == 1).await;
        self.beat().await;
    }

    async fn narrowed(&mut self) {
        let before = self.declared();
        for _ in 0..3 {
            self.pass(1, true).await;
            self.settle().await;
        }
        self.until(|f| f.declared() > before && f.client.status().narrowed).await;
    }

    fn declared(&self) -> usize {
        self.fake.with(|told| told.declared.len())
    }

    fn streams(&self) -> usize {
        self.fake.with(|told| told.streams.len())
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_held_is_declared_once_the_stream_has_settled() {
    let mut f = named(true).await;
    f.exchange().await.unwrap();
    f.narrowed().await;
    let declared = f.fake.with(|told| told.declared[0].clone());
    assert_eq!((&*declared.sidecar, &*declared.stream, declared.generation), ("pod-1", "s1", 1));
    for key in [Key::record(&f.token.id()), Key::subject("ann")] {
        assert!(declared.filter.may_contain(key), "{key:?}");
    }
    assert!(!declared.filter.may_contain(Key::subject("bob")));
    let other = token(2);
    f.knows(&other, "bob");
    f.client.exchange(&other, Outage::Deny).await.unwrap();
    assert_eq!(f.fake.with(|told| told.tags.last().cloned()).unwrap().as_deref(), Some("s1.1"));
    assert!(f.client.cached(&other).is_some(), "confirmed, so it is kept");
    assert_eq!(f.streams(), 1, "of the streams that were opened since");
}

#[tokio::test(start_paused = true)]
async fn what_stays_open_is_held_even_if_it_is_cached_no_more() {
    let mut f = named(true).await;
    let Ok(Exchanged::Active(open)) = f.exchange().await else { panic!("not active") };
    f.fake.send("1500-0", &Event::Updated { id: f.token.id() });
    f.until(|f| f.client.cached(&f.token).is_none()).await;
    f.narrowed().await;
    assert!(f.fake.with(|told| told.declared[0].filter.may_contain(Key::record(&f.token.id()))));
    assert!(!open.life.is_over());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_a_narrowed_stream_does_not_cover_is_asked_for_again_without_it() {
    let mut f = named(true).await;
    f.narrowed().await;
    let streams = f.streams();
    // From here on another replica answers.
    f.fake.with(|told| told.confirms = false);
    assert!(is_active(&f.exchange().await));
    assert_eq!(f.fake.introspections(), 2, "the first answer was not believed");
    assert_eq!(f.fake.with(|told| told.tags.last().cloned()), Some(None));
    f.pass(2, false).await;
    f.until(|f| f.client.metrics.stream_open.get() == 1).await;
    let (resumed, opened) = f.fake.with(|told| (told.streams.last().unwrap().0.clone(), told.streams.len()));
    assert_eq!(opened, streams + 1);
    assert_eq!(resumed, lock(&f.client.last_event).clone(), "from where the last one was");
    // The new one tells everything, and stays so.
    f.beat().await;
    f.client.cache.update(f.token.id());
    assert!(is_active(&f.exchange().await));
    let declared = f.declared();
    f.pass(70, true).await;
    assert_eq!(f.declared(), declared);
}

#[tokio::test(start_paused = true)]
async fn what_the_abandoned_stream_still_says_moves_nothing() {
    let mut f = named(true).await;
    f.narrowed().await;
    let before = lock(&f.client.last_event).clone();
    f.client.abandon_stream();
    f.fake.send("999999-0", &Event::Heartbeat(Heartbeat { at: 9_000_000 }));
    f.pass(2, false).await;
    f.until(|f| f.client.metrics.stream_open.get() == 1).await;
    assert_eq!(f.fake.with(|told| told.streams.last().unwrap().0.clone()), before);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_does_not_know_of_it_sends_everything() {
    let mut f = Fixture::leased().await;
    f.exchange().await.unwrap();
    f.pass(5, true).await;
    assert_eq!((f.declared(), f.client.status().narrowed), (0, false));
    let mut f = named(true).await;
    f.fake.with(|told| {
        told.script =
            Some(Box::new(|path, _| (path == internal_api::INTEREST).then(|| respond(StatusCode::NOT_FOUND, "{}"))));
    });
    f.pass(5, true).await;
    assert!(!f.client.status().narrowed, "refused, so nothing is left out");
}

#[tokio::test(start_paused = true)]
async fn a_reset_and_a_fresh_start_are_acknowledged() {
    let mut f = Fixture::leased().await;
    f.settle().await;
    tokio::time::advance(events::ACK_WITHIN).await;
    f.until(|f| f.fake.with(|told| !told.acknowledged.is_empty())).await;
    f.fake.send("7000-0", &Event::Reset);
    f.acknowledges("7000-0").await;
    f.beat().await;
}
