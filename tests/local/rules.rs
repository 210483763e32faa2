//! Who may do what: rules, scopes, roles, audiences.

use anyhow::{Context, Result};
use cloakroom_tests::browser::Browser;
use cloakroom_tests::local::{Echo, Local, Options};
use reqwest::StatusCode;
use reqwest::header::WWW_AUTHENTICATE;

#[tokio::test]
async fn rules_open_and_close_what_they_name() -> Result<()> {
    let local = Local::start().await?;
    let token = local.access_token(None).await?;
    for (path, without, with) in [
        ("/healthz", 200, 200),
        ("/public/a", 200, 200),
        ("/echo", 401, 200),
        ("/admin/a", 401, 403),
        ("/healthz/x", 401, 200),
    ] {
        let anonymous = local.http.get(local.app(path)).send().await?.status();
        assert_eq!(anonymous, without, "{path} without a token");
        let known = local.http.get(local.app(path)).bearer_auth(&token).send().await?.status();
        assert_eq!(known, with, "{path} with a token");
    }
    Ok(())
}

#[tokio::test]
async fn a_missing_scope_is_named_in_the_challenge() -> Result<()> {
    let local = Local::start().await?;
    let plain = local.access_token(None).await?;
    let scoped = local.access_token(Some("orders")).await?;
    let echo: Echo =
        local.http.get(local.app("/orders/7")).bearer_auth(&scoped).send().await?.error_for_status()?.json().await?;
    assert_eq!(echo.claims()?["scope"], "orders");

    let refused = local.http.get(local.app("/orders/7")).bearer_auth(&plain).send().await?;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    let challenge = refused.headers().get(WWW_AUTHENTICATE).context("no challenge")?.to_str()?;
    assert!(
        challenge.contains("error=\"insufficient_scope\"") && challenge.contains("scope=\"orders\""),
        "{challenge}"
    );
    Ok(())
}

#[tokio::test]
async fn a_role_opens_what_it_is_needed_for() -> Result<()> {
    let local = Local::start().await?;
    let mut browser = Browser::new()?;
    let page = browser.sign_in(&local, "/admin/desk").await?;
    assert_eq!(page.status, 200, "the demo user is an administrator: {page:?}");
    let echo: Echo = serde_json::from_str(&page.body)?;
    assert!(echo.claims()?["roles"].as_array().is_some_and(|roles| roles.iter().any(|role| role == "admin")));
    Ok(())
}

#[tokio::test]
async fn a_token_for_another_audience_is_refused() -> Result<()> {
    // Two installations share one Redis, so one auth service's tokens are known to the other; the policies differ.
    let redis = cloakroom_tests::redis::Redis::start().await?;
    let policy = |name: &str| {
        format!(
            "apiVersion: cloakroom.dev/v1alpha1\nkind: AuthPolicy\nmetadata: {{name: {name}, namespace: local}}\n\
             spec: {{selector: {{matchLabels: {{app: {name}}}}}}}\n"
        )
    };
    let arguments = || vec!["--redis".to_owned(), redis.url()];
    let (one, two) = (policy("one"), policy("two"));
    let one = Local::start_with(Options { policy: Some(&one), arguments: arguments() }).await?;
    // The second start gives the demo client, which both know, a new secret.
    let token = one.access_token(None).await?;
    let two = Local::start_with(Options { policy: Some(&two), arguments: arguments() }).await?;
    one.echo(&token).await?;
    let elsewhere = two.http.get(two.app("/echo")).bearer_auth(&token).send().await?;
    assert_eq!(elsewhere.status(), StatusCode::UNAUTHORIZED);
    Ok(())
}

#[tokio::test]
async fn shadow_mode_lets_everything_pass_and_still_removes_what_is_forged() -> Result<()> {
    let policy = include_str!("../../examples/local.yaml").replace("spec:\n", "spec:\n  mode: Shadow\n");
    let local = Local::start_under(&policy).await?;
    let echo: Echo =
        local.http.get(local.app("/admin/x")).header("X-User-Email", "forged").send().await?.json().await?;
    assert_eq!(echo.header("x-user-email"), None);
    Ok(())
}
