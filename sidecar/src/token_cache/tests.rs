use http::HeaderName;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::*;
use crate::identity::tests::active;

const SECOND: Duration = Duration::from_secs(1);

struct Fixture {
    cache: TokenCache,
    rng: StdRng,
    now: Instant,
}

impl Fixture {
    fn new() -> Self {
        Self::bounded(Bounds::default())
    }

    fn bounded(bounds: Bounds) -> Self {
        let now = Instant::now();
        Self { cache: TokenCache::new(bounds, now), rng: StdRng::seed_from_u64(5), now }
    }

    fn token(&mut self) -> OpaqueToken {
        OpaqueToken::generate(TokenKind::Session, &mut self.rng)
    }

    fn fresh(&self, token: &OpaqueToken, sub: &str) -> Fresh {
        let (token_left, jwt_left) = (SECOND * 3600, SECOND * 60);
        Fresh {
            active: active(&token.clone().into(), sub),
            asked: self.now,
            token_left,
            jwt_left,
            believed: None,
            foreign: None,
            size: 1000,
            bridge: Duration::ZERO,
            stream: None,
        }
    }

    fn admit(&self, token: &OpaqueToken, sub: &str) -> Arc<Identity> {
        self.try_admit(token, &self.cache.question(), self.fresh(token, sub)).unwrap()
    }

    fn try_admit(&self, token: &OpaqueToken, began: &Question, fresh: Fresh) -> Result<Arc<Identity>, NotAdmitted> {
        self.cache.admit(Fingerprint::of(token), began, fresh, &header(), self.now)
    }

    fn try_admit_as(&self, fingerprint: Fingerprint, fresh: Fresh) -> Arc<Identity> {
        self.cache.admit(fingerprint, &self.cache.question(), fresh, &header(), self.now).unwrap()
    }

    fn has(&self, token: &OpaqueToken) -> bool {
        self.cache.get(&Fingerprint::of(token), self.now).is_some()
    }
}

fn header() -> JwtHeader {
    JwtHeader { name: HeaderName::from_static("authorization"), audience: "a".into(), claim_headers: Vec::new() }
}

fn overtaken<T>(result: &Result<T, NotAdmitted>) -> Option<Overtaken> {
    match result {
        Err(NotAdmitted::Overtaken(overtaken, _)) => Some(*overtaken),
        _ => None,
    }
}

#[test]
fn only_the_very_token_finds_its_answer() {
    let mut f = Fixture::new();
    let token = f.token();
    let sibling = OpaqueToken::with_id(TokenKind::Session, token.id(), &mut f.rng);
    f.admit(&token, "u");
    assert!(f.has(&token));
    assert!(!f.has(&sibling), "same id, another secret");
}

#[test]
fn an_answer_ends_with_its_token_and_ahead_of_its_jwt() {
    let mut f = Fixture::new();
    let (long, short) = (f.token(), f.token());
    f.admit(&long, "u");
    let fresh = Fresh { token_left: SECOND * 3, ..f.fresh(&short, "u") };
    f.try_admit(&short, &f.cache.question(), fresh).unwrap();
    f.now += SECOND * 2;
    assert!(f.has(&short));
    f.now += SECOND;
    assert!(!f.has(&short));
    f.now += SECOND * 51;
    assert!(f.has(&long), "54 of 60 seconds");
    f.now += SECOND;
    assert!(!f.has(&long), "the last five seconds are not handed out");
}

#[test]
fn one_caller_renews_and_again_only_after_a_pause() {
    let mut f = Fixture::new();
    let token = f.token();
    f.admit(&token, "u");
    let renew = |f: &Fixture| f.cache.get(&Fingerprint::of(&token), f.now).unwrap().renew;
    f.now += SECOND * 29;
    assert!(!renew(&f));
    f.now += SECOND;
    assert!(renew(&f));
    assert!(!renew(&f), "somebody does already");
    f.now += SECOND * 2;
    assert!(renew(&f), "that must have failed");
    f.admit(&token, "u");
    assert!(!renew(&f));
}

#[test]
fn revoking_a_record_evicts_every_token_of_it_and_ends_what_is_open() {
    let mut f = Fixture::new();
    let (token, other) = (f.token(), f.token());
    let sibling = OpaqueToken::with_id(TokenKind::Session, token.id(), &mut f.rng);
    let lives: Vec<_> = [&token, &sibling, &other].map(|t| f.admit(t, "u").life.clone()).into();
    f.cache.revoke(&Revoked::Id { id: token.id() });
    assert_eq!([&token, &sibling, &other].map(|t| f.has(t)), [false, false, true]);
    assert_eq!(lives.iter().map(|life| life.is_over()).collect::<Vec<_>>(), [true, true, false]);
}

#[test]
fn revoking_a_subject_spares_the_exception_and_other_people() {
    let mut f = Fixture::new();
    let (mine, asking, theirs) = (f.token(), f.token(), f.token());
    f.admit(&mine, "ann");
    let kept = f.admit(&asking, "ann");
    f.admit(&theirs, "bob");
    f.cache.revoke(&Revoked::Subject { sub: "ann".into(), except: Some(asking.id()) });
    assert_eq!([&mine, &asking, &theirs].map(|t| f.has(t)), [false, true, true]);
    assert!(!kept.life.is_over());
    f.cache.revoke(&Revoked::Subject { sub: "ann".into(), except: None });
    assert!(!f.has(&asking) && f.has(&theirs));
    f.cache.revoke(&Revoked::Client { client_id: "shop/web".into() });
    assert!(!f.has(&theirs));
}

#[test]
fn a_token_that_came_with_a_session_is_asked_about_again_when_that_ends() {
    let mut f = Fixture::new();
    let (session, access) = (f.token(), f.token());
    let mut fresh = f.fresh(&access, "u");
    fresh.active.sid = Some(session.id());
    let identity = f.try_admit(&access, &f.cache.question(), fresh).unwrap();
    f.cache.revoke(&Revoked::Id { id: session.id() });
    assert!(!f.has(&access));
    assert!(!identity.life.is_over(), "whether the grant outlives the session is for the auth service to say");
}

#[test]
fn streams_opened_before_an_eviction_still_end_with_their_token() {
    let mut f = Fixture::new();
    let token = f.token();
    let open = f.admit(&token, "u");
    f.cache.update(token.id());
    assert!(!f.has(&token) && !open.life.is_over());
    f.cache.sweep(f.now);
    f.cache.revoke(&Revoked::Id { id: token.id() });
    assert!(open.life.is_over());
}

#[test]
fn a_renewed_answer_shares_the_life_of_the_one_before() {
    let mut f = Fixture::new();
    let token = f.token();
    let first = f.admit(&token, "u");
    let second = f.admit(&token, "u");
    assert!(Arc::ptr_eq(&first.life, &second.life));
}

#[test]
fn what_is_open_ends_when_its_token_expires() {
    let mut f = Fixture::new();
    let token = f.token();
    let open = f.admit(&token, "u");
    f.now += SECOND * 3599;
    f.cache.sweep(f.now);
    assert!(!open.life.is_over());
    f.now += SECOND;
    f.cache.sweep(f.now);
    assert_eq!(open.life.ending(), Some(End::Expired));
    // Whoever still tries is told no, which ends nothing that has begun; a revocation does.
    f.cache.refuse(Fingerprint::of(&token), f.now);
    f.cache.sweep(f.now);
    assert!(!f.has(&token));
    assert_eq!(open.life.ending(), Some(End::Expired));
    f.cache.revoke(&Revoked::Id { id: token.id() });
    assert_eq!(open.life.ending(), Some(End::Over));
}

#[test]
fn what_has_expired_is_forgotten_with_the_last_that_was_begun_and_lives_on_where_its_end_is_later() {
    let mut f = Fixture::new();
    let token = f.token();
    let open = f.admit(&token, "u");
    f.now += SECOND * 3600;
    f.cache.sweep(f.now);
    assert_eq!((open.life.ending(), lock(&f.cache.index).known()), (Some(End::Expired), 1));
    let again = f.admit(&token, "u");
    assert!(Arc::ptr_eq(&open.life, &again.life) && !open.life.is_over(), "an API key's end moves");
    f.now += SECOND * 3600;
    drop((open, again));
    f.cache.sweep(f.now);
    assert_eq!((f.cache.size().0, lock(&f.cache.index).known()), (0, 0));
}

#[test]
fn an_answer_that_a_revocation_overtook_is_not_let_in() {
    let mut f = Fixture::new();
    let token = f.token();
    for revoked in [
        Revoked::Id { id: token.id() },
        Revoked::Subject { sub: "u".into(), except: None },
        Revoked::Client { client_id: "shop/web".into() },
    ] {
        let began = f.cache.question();
        f.cache.revoke(&revoked);
        assert_eq!(
            overtaken(&f.try_admit(&token, &began, f.fresh(&token, "u"))),
            Some(Overtaken::Revoked),
            "{revoked:?}"
        );
        assert!(!f.has(&token));
    }
    let began = f.cache.question();
    f.cache.revoke(&Revoked::Subject { sub: "u".into(), except: Some(token.id()) });
    f.cache.revoke(&Revoked::Subject { sub: "somebody".into(), except: None });
    let stranger = f.token();
    f.cache.revoke(&Revoked::Id { id: stranger.id() });
    f.try_admit(&token, &began, f.fresh(&token, "u")).unwrap();
}

#[test]
fn a_change_overtakes_too_and_the_answer_comes_back_for_one_use() {
    let mut f = Fixture::new();
    let token = f.token();
    let began = f.cache.question();
    f.cache.update(token.id());
    let Err(NotAdmitted::Overtaken(Overtaken::Updated, fresh)) = f.try_admit(&token, &began, f.fresh(&token, "u"))
    else {
        panic!("let in")
    };
    let identity = f.cache.uncached(Fingerprint::of(&token), *fresh, &header(), f.now).unwrap();
    assert!(!f.has(&token));
    f.cache.revoke(&Revoked::Id { id: token.id() });
    assert!(identity.life.is_over(), "what it opened is known all the same");
}

#[test]
fn after_a_reset_nothing_older_counts() {
    let mut f = Fixture::new();
    let (token, waiting) = (f.token(), f.token());
    let open = f.admit(&token, "u");
    let began = f.cache.question();
    f.cache.reset();
    assert!(!f.has(&token));
    assert_eq!(open.life.ending(), Some(End::Unheard), "nobody is signed out by this");
    assert_eq!(overtaken(&f.try_admit(&waiting, &began, f.fresh(&waiting, "u"))), Some(Overtaken::Revoked));
    assert!(!f.admit(&token, "u").life.is_over(), "asked again, it may live again");
    assert_eq!(f.cache.size().0, 1);
}

#[test]
fn more_happenings_than_are_remembered_count_as_one_that_concerns_everybody() {
    let mut f = Fixture::new();
    let token = f.token();
    let began = f.cache.question();
    for _ in 0..1024 {
        let other = f.token();
        f.cache.update(other.id());
    }
    f.try_admit(&token, &began, f.fresh(&token, "u")).unwrap();
    let other = f.token();
    f.cache.update(other.id());
    assert!(overtaken(&f.try_admit(&token, &began, f.fresh(&token, "u"))).is_some());
}

#[test]
fn a_new_policy_voids_answers_but_ends_nothing() {
    let mut f = Fixture::new();
    let token = f.token();
    let open = f.admit(&token, "u");
    let began = f.cache.question();
    f.cache.clear();
    assert!(!f.has(&token) && !open.life.is_over());
    assert!(overtaken(&f.try_admit(&token, &began, f.fresh(&token, "u"))).is_some());
}

#[test]
fn a_refusal_is_remembered_for_two_seconds_and_until_something_changes() {
    let mut f = Fixture::new();
    let token = f.token();
    let refused = |f: &Fixture| f.cache.is_refused(&Fingerprint::of(&token), f.now);
    let open = f.admit(&token, "u");
    f.cache.refuse(Fingerprint::of(&token), f.now);
    assert!(!f.has(&token) && open.life.is_over());
    assert!(refused(&f));
    f.now += SECOND * 2;
    assert!(!refused(&f));
    f.cache.refuse(Fingerprint::of(&token), f.now);
    f.cache.update(token.id());
    assert!(!refused(&f));
}

#[test]
fn refusals_are_bounded() {
    let mut f = Fixture::new();
    for _ in 0..15_000 {
        let token = f.token();
        f.cache.refuse(Fingerprint::of(&token), f.now);
    }
    let last = f.token();
    f.cache.refuse(Fingerprint::of(&last), f.now);
    assert!(!f.cache.is_refused(&Fingerprint::of(&last), f.now), "no room");
    f.now += SECOND * 2;
    f.cache.sweep(f.now);
    f.cache.refuse(Fingerprint::of(&last), f.now);
    assert!(f.cache.is_refused(&Fingerprint::of(&last), f.now));
}

#[test]
fn entries_and_bytes_are_bounded_and_what_is_used_stays() {
    for bounds in
        [Bounds { entries: 100, bytes: usize::MAX }, Bounds { entries: usize::MAX, bytes: 100 * (2048 + 1500) }]
    {
        let mut f = Fixture::bounded(bounds);
        let used = f.token();
        f.admit(&used, "u");
        for at in 0..1000 {
            f.now += SECOND;
            let other = f.token();
            f.admit(&other, &format!("u{at}"));
            if at % 20 == 0 {
                f.admit(&used, "u");
                f.now += SECOND;
                assert!(f.has(&used), "{at}");
            }
            let (entries, bytes) = f.cache.size();
            assert!(entries <= 100 && bytes <= 100 * 3548, "{entries} {bytes}");
        }
        assert_eq!(f.cache.evictions(), 901);
        f.cache.sweep(f.now);
        let index = lock(&f.cache.index);
        assert!(index.known() <= 101, "whoever was evicted is forgotten: {}", index.known());
    }
}

#[test]
fn use_is_reported_once_with_its_age() {
    let mut f = Fixture::new();
    let token = f.token();
    f.admit(&token, "u");
    assert!(f.cache.take_usage(f.now).is_empty(), "asking was the use");
    f.now += SECOND * 7;
    assert!(f.has(&token));
    f.now += SECOND * 3;
    let usage = f.cache.take_usage(f.now);
    assert_eq!(usage, [Usage { id: token.id(), ago: 3 }]);
    assert!(f.cache.take_usage(f.now).is_empty());
}

#[test]
fn only_sessions_have_a_use_to_report() {
    let mut f = Fixture::new();
    let key = OpaqueToken::generate(TokenKind::ApiKey, &mut f.rng);
    f.admit(&key, "u");
    f.now += SECOND * 7;
    assert!(f.has(&key));
    assert!(f.cache.take_usage(f.now).is_empty());
}

impl Fixture {
    fn foreign(&self, believed: Duration) -> (ForeignToken, Fresh) {
        let token = ForeignToken::parse(b"opaque-token-of-another-issuer").unwrap();
        let active = active(&token.clone().into(), "sso:ann");
        let (token_left, jwt_left) = (SECOND * 3600, SECOND * 60);
        let believed = Some(believed);
        let foreign = Some(token.clone());
        (
            token,
            Fresh {
                active,
                asked: self.now,
                token_left,
                jwt_left,
                believed,
                foreign,
                bridge: Duration::ZERO,
                size: 1000,
                stream: None,
            },
        )
    }
}

#[test]
fn another_issuers_word_is_renewed_halfway_and_holds_no_longer_than_it_is_believed() {
    let mut f = Fixture::new();
    let (token, fresh) = f.foreign(SECOND * 10);
    let fingerprint = Fingerprint::of_presented(&token.into());
    f.try_admit_as(fingerprint, fresh);
    f.now += SECOND * 4;
    assert!(!f.cache.get(&fingerprint, f.now).unwrap().renew);
    f.now += SECOND;
    assert!(f.cache.get(&fingerprint, f.now).unwrap().renew, "ahead of its end");
    f.now += Duration::from_millis(4_999);
    assert!(f.cache.get(&fingerprint, f.now).is_some());
    f.now += Duration::from_millis(1);
    assert!(f.cache.get(&fingerprint, f.now).is_none());
    assert!(f.cache.get_unrenewed(&fingerprint, f.now).is_none(), "not even for the outage contract");
}

#[test]
fn what_is_open_with_another_issuers_token_is_asked_about_again_until_it_closes() {
    let mut f = Fixture::new();
    let (token, fresh) = f.foreign(SECOND * 10);
    let fingerprint = Fingerprint::of_presented(&token.clone().into());
    let open = f.try_admit_as(fingerprint, fresh);
    f.now += SECOND * 9;
    f.cache.sweep(f.now);
    assert!(f.cache.due(f.now).is_empty());
    f.now += SECOND;
    assert!(f.cache.due(f.now) == [(fingerprint, token)]);
    assert!(f.cache.due(f.now).is_empty(), "somebody asks already");
    let (token, fresh) = f.foreign(SECOND * 10);
    let again = f.try_admit_as(fingerprint, fresh);
    assert!(Arc::ptr_eq(&open.life, &again.life) && !open.life.is_over());
    drop((open, again));
    f.now += SECOND * 10;
    assert!(f.cache.due(f.now).is_empty(), "nobody has anything open with {token:?}");
    f.cache.sweep(f.now);
    assert_eq!((f.cache.size().0, lock(&f.cache.index).known()), (0, 0));
}

#[test]
fn what_is_open_ends_when_nobody_can_be_asked_for_a_minute() {
    let mut f = Fixture::new();
    let (_, fresh) = f.foreign(SECOND * 10);
    let open = f.try_admit_as(Fingerprint([1; 32]), fresh);
    f.now += SECOND * 10;
    for _ in 0..59 {
        f.now += SECOND;
        f.cache.due(f.now);
        f.cache.sweep(f.now);
    }
    assert!(!open.life.is_over());
    f.now += SECOND;
    f.cache.sweep(f.now);
    assert_eq!(open.life.ending(), Some(End::Unheard));
}

#[test]
fn what_is_to_outlast_an_outage_is_renewed_early_enough_for_that() {
    let minute = SECOND * 60;
    let usable = SECOND * 55;
    assert_eq!(renewal(minute, usable, Duration::ZERO), minute / 2);
    // Used just before it is due, a JWT still covers the lease and the outage.
    for bridge in [SECOND, SECOND * 20, SECOND * 35] {
        let due = renewal(minute, usable, bridge);
        assert!(due <= minute / 2 && usable >= due + LEASE + bridge, "{bridge:?}: {due:?}");
    }
    assert!(renewal(minute, usable, SECOND * 3600) >= SECOND * 5, "not with every request, whatever the policy says");
}
