//! Session data, sign-out, use.

use super::*;

#[tokio::test(start_paused = true)]
async fn session_data_are_committed_once_or_not_at_all() {
    let f = Fixture::leased().await;
    let Ok(Exchanged::Active(identity)) = f.exchange().await else { panic!("not active") };
    let patch = |key: &str| json!({key: 1}).as_object().unwrap().clone();
    let commit = |key: &'static str| f.client.commit_session(f.token.ours().unwrap(), &identity, patch(key));
    assert_eq!(commit("admin").await, Err(CommitError::NotWritable));
    assert!(f.fake.with(|told| told.asked.iter().all(|asked| !asked.contains("/session"))), "not even asked");

    let mut changed = active(&f.token, "ann");
    changed.session_version = 4;
    let changed = serde_json::to_string(&changed).unwrap();
    for (status, body, expected) in [
        (409, "", Err(CommitError::Conflict)),
        (422, "", Err(CommitError::NotWritable)),
        (413, "", Err(CommitError::TooLarge)),
        (503, "", Err(CommitError::Unavailable)),
        (200, "{}", Err(CommitError::Unavailable)),
        (200, r#"{"active":false}"#, Err(CommitError::Gone)),
        (200, changed.as_str(), Ok(())),
    ] {
        let (status, answer) = (StatusCode::from_u16(status).unwrap(), body.to_owned());
        f.fake.with(|told| {
            told.script =
                Some(Box::new(move |path, _| (path == internal_api::SESSION).then(|| respond(status, &answer))));
        });
        assert_eq!(commit("cart").await, expected, "{status} {body}");
    }
    assert_eq!(f.client.cached(&f.token).unwrap().session_version, 4);
    let sent = f.fake.with(|told| told.bodies.iter().filter(|(path, _)| path == internal_api::SESSION).count());
    assert_eq!(sent, 7, "none was sent twice");
    for kind in [TokenKind::ApiKey, TokenKind::Access] {
        let other = OpaqueToken::generate(kind, &mut StdRng::seed_from_u64(9));
        assert_eq!(f.client.commit_session(&other, &identity, patch("cart")).await, Err(CommitError::NotASession));
    }
}

#[tokio::test(start_paused = true)]
async fn signing_out_takes_effect_here_before_it_is_confirmed() {
    let f = Fixture::leased().await;
    f.exchange().await.unwrap();
    f.client.sign_out(f.token.ours().unwrap(), RevokeScope::Session).await.unwrap();
    assert!(f.client.cached(&f.token).is_none());

    let elsewhere = token(4);
    f.knows(&elsewhere, "ann");
    f.client.exchange(&elsewhere, Outage::Deny).await.unwrap();
    f.exchange().await.unwrap();
    f.client.sign_out(f.token.ours().unwrap(), RevokeScope::Everywhere).await.unwrap();
    assert!(f.client.cached(&elsewhere).is_none());

    f.exchange().await.unwrap();
    f.fake.with(|told| told.script = Some(Box::new(|_, _| Some(respond(StatusCode::BAD_GATEWAY, "")))));
    assert_eq!(f.client.sign_out(f.token.ours().unwrap(), RevokeScope::Session).await, Err(Unavailable.into()));
    assert!(f.client.cached(&f.token).is_some(), "nobody confirmed anything");
}

#[tokio::test(start_paused = true)]
async fn neither_an_api_key_nor_an_application_signs_anybody_out() {
    let f = Fixture::leased().await;
    let [key, access] =
        [TokenKind::ApiKey, TokenKind::Access].map(|kind| OpaqueToken::generate(kind, &mut StdRng::seed_from_u64(9)));
    for (token, scope) in
        [(&key, RevokeScope::Session), (&key, RevokeScope::Everywhere), (&access, RevokeScope::Everywhere)]
    {
        assert_eq!(f.client.sign_out(token, scope).await, Err(SignOutError::NotASession), "{scope:?}");
    }
    assert!(f.fake.with(|told| told.asked.iter().all(|asked| !asked.contains(internal_api::REVOKE))), "not even asked");
    f.client.sign_out(&access, RevokeScope::Session).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn use_of_cached_sessions_is_reported() {
    let mut f = Fixture::leased().await;
    f.exchange().await.unwrap();
    f.pass(5, true).await;
    f.client.cached(&f.token).unwrap();
    for _ in 0..14 {
        f.pass(1, true).await;
        f.settle().await;
    }
    f.until(|f| f.fake.with(|told| !told.usage.is_empty())).await;
    let report = f.fake.with(|told| told.usage[0].clone());
    assert_eq!(report.used[0].id, f.token.id());
    assert!((8..=12).contains(&report.used[0].ago), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn what_was_written_is_renewed_as_early_as_an_outage_is_to_be_bridged() {
    for (outage, renewed_after) in [(json!("Deny"), 30), (json!({"Lease": {"seconds": 40}}), 10)] {
        let mut f = Fixture::leased().await;
        f.configure(|config| config["outage"] = outage);
        let Ok(Exchanged::Active(identity)) = f.exchange().await else { panic!("not active") };
        let mut written = active(&f.token, "ann");
        let now = clock::unix_now().as_secs();
        (written.session_version, written.exp, written.jwt_exp) = (4, now + 3600, now + 60);
        let written = serde_json::to_string(&written).unwrap();
        f.fake.with(|told| {
            told.script = Some(Box::new(move |path, _| {
                (path == internal_api::SESSION).then(|| respond(StatusCode::OK, &written))
            }));
        });
        let patch = json!({"cart": 1}).as_object().unwrap().clone();
        f.client.commit_session(f.token.ours().unwrap(), &identity, patch).await.unwrap();
        let asked = f.fake.introspections();
        let version = |f: &Fixture| f.client.cached(&f.token).map(|identity| identity.session_version);
        // The auth service counts whole seconds.
        f.pass(renewed_after - 2, true).await;
        assert_eq!(version(&f), Some(4));
        f.settle().await;
        assert_eq!(f.fake.introspections(), asked, "not yet: {renewed_after}");
        f.pass(3, true).await;
        assert_eq!(version(&f), Some(4));
        f.until(|f| f.fake.introspections() == asked + 1).await;
        f.until(|f| version(f) == Some(3)).await;
    }
}
