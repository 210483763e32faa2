//! API keys: the lesser way for programs.

use anyhow::Result;
use cloakroom_tests::local::{Echo, Local};
use reqwest::StatusCode;

#[tokio::test]
async fn the_demo_api_key_works_as_bearer_and_in_its_own_header() -> Result<()> {
    let local = Local::start().await?;
    assert!(local.ready.api_key.starts_with("ck_"));
    let bearer = local.echo(&local.ready.api_key).await?;
    let own = local.http.get(local.app("/echo")).header("X-Api-Key", &local.ready.api_key).send().await?;
    let own: Echo = own.error_for_status()?.json().await?;
    for echo in [bearer, own] {
        assert_eq!(echo.claims()?["aud"], *local.ready.policy);
        assert_eq!(echo.header("x-api-key"), None);
    }
    Ok(())
}

#[tokio::test]
async fn an_api_key_is_not_taken_from_a_header_that_the_policy_does_not_name() -> Result<()> {
    let local = Local::start_under(include_str!("../../examples/minimal.yaml")).await?;
    local.echo(&local.ready.api_key).await?;
    let other = local.http.get(local.app("/echo")).header("X-Api-Key", &local.ready.api_key).send().await?;
    assert_eq!(other.status(), StatusCode::UNAUTHORIZED);
    Ok(())
}

#[tokio::test]
async fn a_token_works_only_from_the_sources_that_the_policy_names() -> Result<()> {
    let local = Local::start_under(include_str!("../../examples/minimal.yaml")).await?;
    let token = local.access_token(None).await?;
    for url in ["/echo?access_token=", "/echo?token="] {
        let answer = local.http.get(format!("{}{token}", local.app(url))).send().await?;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "never from the address (RFC 6750 §2.3)");
    }
    let basic = local.http.get(local.app("/echo")).basic_auth("x", Some(&token)).send().await?;
    assert_eq!(basic.status(), StatusCode::UNAUTHORIZED);
    Ok(())
}
