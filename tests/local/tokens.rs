//! The opaque token outside, the JWT inside.

use std::time::Instant;

use anyhow::{Context, Result};
use cloakroom_tests::local::{Local, client};
use cloakroom_tests::{jwt_in, opaque_token_in, python};
use reqwest::StatusCode;
use serde_json::Value;

#[tokio::test]
async fn the_app_gets_a_jwt_and_no_opaque_token_in_any_header() -> Result<()> {
    let local = Local::start().await?;
    let token = local.access_token(None).await?;
    assert_eq!(opaque_token_in(&token), Some(token.as_str()), "one of our opaque tokens, nothing readable");
    let echo = local.echo(&token).await?;
    assert!(echo.jwt()?.split('.').count() == 3);
    for (name, value) in &echo.headers {
        assert_eq!(opaque_token_in(value), None, "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn a_library_that_is_not_ours_verifies_the_jwt_from_the_jwks() -> Result<()> {
    let local = Local::start().await?;
    let discovery = local.discovery().await?;
    let jwks = discovery["jwks_uri"].as_str().context("no jwks_uri")?;
    let issuer = discovery["issuer"].as_str().context("no issuer")?;
    assert_eq!(issuer, local.ready.auth_url);
    let echo = local.echo(&local.access_token(None).await?).await?;

    let verified = python::run("verify_jwt.py", &[jwks, issuer, &local.ready.policy, echo.jwt()?]).await?;
    let Value::Object(verified) = serde_json::from_str(&verified)? else { anyhow::bail!("{verified}") };
    assert_eq!(verified["header"]["typ"], "at+jwt", "RFC 9068 §2.1");
    assert_eq!(verified["header"]["alg"], "ES256");
    let claims = &verified["claims"];
    assert_eq!(claims["client_id"], local.ready.client_id);
    let lifetime = claims["exp"].as_i64().zip(claims["iat"].as_i64()).map(|(exp, iat)| exp - iat);
    assert!(lifetime.is_some_and(|seconds| (1..=60).contains(&seconds)), "{claims}");

    let other = python::run("verify_jwt.py", &[jwks, issuer, "local/other", echo.jwt()?]).await;
    assert!(other.is_err_and(|error| error.to_string().contains("InvalidAudienceError")));
    Ok(())
}

#[tokio::test]
async fn every_request_header_of_the_client_arrives_but_the_token() -> Result<()> {
    let local = Local::start().await?;
    let token = local.access_token(None).await?;
    let request =
        local.http.put(local.app("/echo/a?x=%20y")).bearer_auth(&token).header("X-Mine", "1").body("twelve bytes");
    let echo: cloakroom_tests::local::Echo = request.send().await?.error_for_status()?.json().await?;
    assert_eq!((echo.method.as_str(), echo.target.as_str(), echo.body_length), ("PUT", "/echo/a?x=%20y", 12));
    assert_eq!(echo.header("x-mine"), Some("1"));
    assert_eq!(echo.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("authorization")).count(), 1);
    Ok(())
}

#[tokio::test]
async fn the_jwt_never_reaches_the_client_even_where_the_app_hands_it_out() -> Result<()> {
    let local = Local::start().await?;
    let token = local.access_token(None).await?;
    let answer = local.http.get(local.app("/leak")).bearer_auth(&token).send().await?.error_for_status()?;
    assert_eq!(answer.headers()["x-leaked-jwt"], token, "the opaque token stands in for it");
    for (name, value) in answer.headers() {
        assert_eq!(jwt_in(&String::from_utf8_lossy(value.as_bytes())), None, "{name}");
    }
    let cookie = String::from_utf8_lossy(answer.headers()["set-cookie"].as_bytes());
    assert!(cookie.contains(&token), "{cookie}");
    Ok(())
}

#[tokio::test]
async fn a_revoked_token_is_refused_from_the_revocations_answer_on() -> Result<()> {
    let local = Local::start().await?;
    let mut took = Vec::new();
    for _ in 0..20 {
        let token = local.access_token(None).await?;
        local.echo(&token).await?;
        let start = Instant::now();
        local.revoke(&token).await?;
        took.push(start.elapsed());
        let refused = local.http.get(local.app("/echo")).bearer_auth(&token).send().await?;
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    }
    println!("a revocation's answer, every sidecar's receipt included, took {took:?}");
    Ok(())
}

#[tokio::test]
async fn only_its_own_client_can_revoke_a_token() -> Result<()> {
    let local = Local::start().await?;
    let token = local.access_token(None).await?;
    let endpoint = local.discovery().await?["revocation_endpoint"].as_str().context("no endpoint")?.to_owned();
    for password in ["", "wrong"] {
        let request = local.http.post(&endpoint).basic_auth(&local.ready.client_id, Some(password));
        let status = request.form(&[("token", &token)]).send().await?.status();
        assert_eq!(status, StatusCode::UNAUTHORIZED, "RFC 7009 §2.1");
    }
    local.echo(&token).await?;
    Ok(())
}

#[tokio::test]
async fn http2_with_prior_knowledge_is_the_same() -> Result<()> {
    let local = Local::start().await?;
    let token = local.access_token(None).await?;
    let h2 = reqwest::Client::builder().http2_prior_knowledge().no_proxy().build()?;
    let answer = h2.post(local.app("/echo?a=b")).bearer_auth(&token).body("abc").send().await?;
    assert_eq!(answer.version(), reqwest::Version::HTTP_2);
    let echo: cloakroom_tests::local::Echo = answer.error_for_status()?.json().await?;
    assert_eq!((echo.method.as_str(), echo.target.as_str(), echo.body_length), ("POST", "/echo?a=b", 3));
    assert_ne!(echo.jwt()?, token);
    let refused = h2.get(local.app("/echo")).send().await?;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    Ok(())
}

#[tokio::test]
async fn a_long_body_comes_through_whole_both_ways() -> Result<()> {
    let local = Local::start().await?;
    let token = local.access_token(None).await?;
    let body = local.http.get(local.app("/stream?bytes=30000000")).bearer_auth(&token).send().await?.bytes().await?;
    assert_eq!(body.len(), 30_000_000);
    let chunks = futures::stream::iter((0..90).map(|_| Ok::<_, std::io::Error>(vec![b'x'; 100_000])));
    let request = client()?.post(local.app("/echo")).bearer_auth(&token).body(reqwest::Body::wrap_stream(chunks));
    let echo: cloakroom_tests::local::Echo = request.send().await?.error_for_status()?.json().await?;
    assert_eq!(echo.body_length, 9_000_000);
    Ok(())
}
