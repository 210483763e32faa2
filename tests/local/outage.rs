//! Redis goes away and comes back: nobody is signed out, nothing is restarted.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cloakroom_tests::browser::Browser;
use cloakroom_tests::local::{Local, Options};
use cloakroom_tests::redis::Redis;
use reqwest::StatusCode;
use reqwest::header::{RETRY_AFTER, SET_COOKIE};

async fn on(redis: &Redis) -> Result<Local> {
    Local::start_with(Options { arguments: vec!["--redis".to_owned(), redis.url()], ..Options::default() }).await
}

#[tokio::test]
async fn while_redis_is_down_requests_get_503_and_keep_their_cookies_then_all_is_as_before() -> Result<()> {
    let mut redis = Redis::start().await?;
    let local = on(&redis).await?;
    let mut browser = Browser::new()?;
    browser.sign_in(&local, "/").await?;
    let cookie = format!("__Host-cloakroom={}", browser.cookie("__Host-cloakroom").context("no session")?);
    let get = async || local.http.get(local.app("/echo")).header("Cookie", &cookie).send().await;
    assert_eq!(get().await?.status(), StatusCode::OK);

    redis.down().await?;
    let down = Instant::now();
    let refused = loop {
        let answer = get().await?;
        if answer.status() != StatusCode::OK {
            break answer;
        }
        ensure!(down.elapsed() < Duration::from_secs(8), "honoured for longer than the lease");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE, "an outage is no sign-out");
    assert!(refused.headers().contains_key(RETRY_AFTER));
    assert!(!refused.headers().contains_key(SET_COOKIE), "the cookie stays");
    println!("honoured for {:?} without Redis", down.elapsed());
    let anonymous = local.http.get(local.app("/healthz")).send().await?;
    assert_eq!(anonymous.status(), StatusCode::OK, "what needs no identity needs no auth service");

    redis.up().await?;
    let up = Instant::now();
    while get().await?.status() != StatusCode::OK {
        ensure!(up.elapsed() < Duration::from_secs(10), "not back ten seconds after Redis");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("back {:?} after Redis", up.elapsed());
    Ok(())
}

#[tokio::test]
async fn each_rule_has_its_own_word_on_an_outage() -> Result<()> {
    let mut redis = Redis::start().await?;
    let policy = "apiVersion: cloakroom.dev/v1alpha1\nkind: AuthPolicy\nmetadata: {name: demo, namespace: local}\n\
                  spec:\n  selector: {matchLabels: {app: demo}}\n  jwt: {lifetime: 6m}\n  rules:\n\
                  \x20 - {match: [{path: /lease/**}], outage: {mode: Lease, for: 5m}}\n\
                  \x20 - {match: [{path: /short/**}], outage: {mode: Lease, for: 6s}}\n\
                  \x20 - {match: [{path: /maybe/**}], access: Optional}\n";
    let arguments = vec!["--redis".to_owned(), redis.url()];
    let local = Local::start_with(Options { policy: Some(policy), arguments }).await?;
    let token = local.access_token(None).await?;
    let get = async |path: &str| local.http.get(local.app(path)).bearer_auth(&token).send().await;
    for path in ["/lease/x", "/short/x", "/deny/x", "/maybe/x"] {
        assert_eq!(get(path).await?.status(), StatusCode::OK, "{path}");
    }
    redis.down().await?;
    let end = Instant::now() + Duration::from_secs(20);
    while get("/deny/x").await?.status() != StatusCode::SERVICE_UNAVAILABLE {
        ensure!(Instant::now() < end, "honoured for longer than the lease");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let denied = Instant::now();
    assert_eq!(get("/lease/x").await?.status(), StatusCode::OK, "the rule's own lease");
    while get("/short/x").await?.status() != StatusCode::SERVICE_UNAVAILABLE {
        ensure!(denied.elapsed() < Duration::from_secs(15), "honoured for longer than the rule says");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    ensure!(denied.elapsed() > Duration::from_secs(4), "given up {:?} after the lease, not 6 s", denied.elapsed());
    assert_eq!(get("/lease/x").await?.status(), StatusCode::OK, "and that of another rule is longer");
    assert_eq!(get("/maybe/x").await?.status(), StatusCode::SERVICE_UNAVAILABLE, "nobody is taken for anonymous");
    Ok(())
}

#[tokio::test]
async fn a_junk_token_is_refused_without_redis() -> Result<()> {
    let mut redis = Redis::start().await?;
    let local = on(&redis).await?;
    redis.down().await?;
    let answer = local.http.get(local.app("/echo")).bearer_auth("junk").send().await?;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    Ok(())
}

#[tokio::test]
async fn sessions_outlive_the_process_in_redis() -> Result<()> {
    let redis = Redis::start().await?;
    let first = on(&redis).await?;
    let token = first.access_token(None).await?;
    first.echo(&token).await?;
    drop(first);
    let second = on(&redis).await?;
    second.echo(&token).await?;
    Ok(())
}
