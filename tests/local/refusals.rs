//! Requests without a valid token.

use anyhow::{Context, Result};
use cloakroom_tests::local::Local;
use reqwest::StatusCode;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, LOCATION, SET_COOKIE, WWW_AUTHENTICATE};
use serde_json::Value;

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str> {
    Ok(headers.get(name).with_context(|| format!("no {name} in {headers:?}"))?.to_str()?)
}

#[tokio::test]
async fn an_api_call_without_a_token_gets_401_a_challenge_and_a_problem() -> Result<()> {
    let local = Local::start().await?;
    let answer = local.http.get(local.app("/echo")).send().await?;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    let challenge = header(answer.headers(), WWW_AUTHENTICATE.as_str())?;
    assert!(challenge.starts_with("Bearer"), "{challenge}");
    assert!(challenge.contains("resource_metadata="), "RFC 9728 §5.1: {challenge}");
    assert!(!challenge.contains("error="), "RFC 6750 §3.1: no error code where no token was sent: {challenge}");
    assert_eq!(header(answer.headers(), CONTENT_TYPE.as_str())?, "application/problem+json");
    let problem: Value = answer.json().await?;
    assert_eq!(problem["status"], 401);
    assert!(problem["title"].is_string(), "{problem}");
    Ok(())
}

#[tokio::test]
async fn junk_and_unknown_tokens_get_the_same_401() -> Result<()> {
    let local = Local::start().await?;
    let real = local.access_token(None).await?;
    let altered = format!("{}{}", &real[..real.len() - 1], if real.ends_with('0') { '1' } else { '0' });
    for token in ["x", "cs_", "eyJhbGciOiJub25lIn0.e30.", &altered, &"a".repeat(4000)] {
        let answer = local.http.get(local.app("/echo")).bearer_auth(token).send().await?;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{token}");
        let challenge = header(answer.headers(), WWW_AUTHENTICATE.as_str())?;
        assert!(challenge.contains("error=\"invalid_token\""), "{token}: {challenge}");
    }
    Ok(())
}

#[tokio::test]
async fn the_apps_own_jwt_is_no_ticket() -> Result<()> {
    let local = Local::start().await?;
    let echo = local.echo(&local.access_token(None).await?).await?;
    let answer = local.http.get(local.app("/echo")).bearer_auth(echo.jwt()?).send().await?;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    Ok(())
}

#[tokio::test]
async fn a_page_load_is_sent_to_sign_in_and_an_api_call_is_not() -> Result<()> {
    let local = Local::start().await?;
    let page = local.http.get(local.app("/")).header(ACCEPT, "text/html").header("Sec-Fetch-Mode", "navigate");
    let answer = page.send().await?;
    assert!(answer.status().is_redirection(), "{}", answer.status());
    assert!(header(answer.headers(), LOCATION.as_str())?.starts_with(&local.auth("/oauth2/authorize?")), "{answer:?}");
    let cookie = header(answer.headers(), SET_COOKIE.as_str())?;
    assert!(cookie.starts_with("__Host-cloakroom-flow-"), "{cookie}");
    for attribute in ["HttpOnly", "Secure", "SameSite=Lax", "Path=/"] {
        assert!(cookie.split("; ").any(|part| part == attribute), "{attribute} in {cookie}");
    }

    let fetch = local.http.get(local.app("/")).header(ACCEPT, "application/json").header("Sec-Fetch-Mode", "cors");
    assert_eq!(fetch.send().await?.status(), StatusCode::UNAUTHORIZED);
    let post = local.http.post(local.app("/")).header(ACCEPT, "text/html");
    assert_eq!(post.send().await?.status(), StatusCode::UNAUTHORIZED, "a POST cannot be repeated after sign-in");
    Ok(())
}

#[tokio::test]
async fn two_different_tokens_in_one_request_are_refused() -> Result<()> {
    let local = Local::start().await?;
    let (first, second) = (local.access_token(None).await?, local.access_token(None).await?);
    let both =
        local.http.get(local.app("/echo")).bearer_auth(&first).header("Cookie", format!("__Host-cloakroom={second}"));
    let status = both.send().await?.status();
    assert!(status.is_client_error(), "{status}");
    Ok(())
}
