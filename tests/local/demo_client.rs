//! The demo client as an OAuth client of its own: the code flow of RFC 8252, with PKCE.

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use cloakroom_tests::browser::Browser;
use cloakroom_tests::html::Form;
use cloakroom_tests::local::Local;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use sha2::{Digest, Sha256};
use url::Url;

const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

fn authorize(local: &Local, endpoint: &str, redirect_uri: &str) -> Result<Url> {
    let challenge = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER));
    let parameters = [
        ("response_type", "code"),
        ("client_id", &local.ready.client_id),
        ("redirect_uri", redirect_uri),
        ("state", "some-state"),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ];
    Ok(Url::parse_with_params(endpoint, parameters)?)
}

/// Signs in and agrees where asked; the callback's address.
async fn code(local: &Local, redirect_uri: &str) -> Result<Url> {
    let endpoint = local.discovery().await?["authorization_endpoint"].as_str().context("no endpoint")?.to_owned();
    let mut browser = Browser::new()?;
    let page = browser.open(authorize(local, &endpoint, redirect_uri)?.as_str()).await?;
    let mut form = Form::with_password(&page.body).with_context(|| format!("{page:?}"))?;
    form.set_text(&local.ready.username)?;
    form.set_password(&local.ready.password)?;
    let mut url = page.url.join(&form.action)?;
    let mut answer = browser.send(Method::POST, url.clone(), Some(&form.fields)).await?;
    for _ in 0..6 {
        if let Some(location) = answer.headers().get("location") {
            url = url.join(location.to_str()?)?;
            if url.as_str().starts_with(redirect_uri) {
                return Ok(url);
            }
            answer = browser.send(Method::GET, url.clone(), None).await?;
        } else {
            let body = answer.text().await?;
            let mut form = Form::all(&body).into_iter().next().with_context(|| body.clone())?;
            form.set("decision", "allow");
            url = url.join(&form.action)?;
            answer = browser.send(Method::POST, url.clone(), Some(&form.fields)).await?;
        }
    }
    anyhow::bail!("never came back to {redirect_uri}")
}

#[tokio::test]
async fn the_code_flow_works_with_any_loopback_port() -> Result<()> {
    let local = Local::start().await?;
    for redirect_uri in ["http://127.0.0.1:49152/callback", "http://127.0.0.1:7/callback"] {
        let back = code(&local, redirect_uri).await?;
        let answer: std::collections::BTreeMap<_, _> = back.query_pairs().into_owned().collect();
        assert_eq!(answer["state"], "some-state");
        assert_eq!(answer["iss"], local.ready.auth_url, "RFC 9207");
        let form = [
            ("grant_type", "authorization_code"),
            ("code", answer["code"].as_str()),
            ("redirect_uri", redirect_uri),
            ("code_verifier", VERIFIER),
        ];
        let wrong = [form[0], form[1], form[2], ("code_verifier", "wrong-wrong-wrong-wrong-wrong-wrong-wrong-wr")];
        let fresh = local.token_request(&form).await?;
        assert_eq!(fresh.headers()["cache-control"], "no-store");
        let tokens: Value = fresh.error_for_status()?.json().await?;
        let token = tokens["access_token"].as_str().context("no token")?;
        let claims = local.echo(token).await?.claims()?;
        assert_eq!(claims["client_id"], local.ready.client_id);
        assert_ne!(claims["sub"], local.ready.client_id, "it is the person's");

        for again in [&form, &wrong] {
            let refused = local.token_request(again).await?;
            assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
            assert_eq!(refused.json::<Value>().await?["error"], "invalid_grant");
        }
    }
    Ok(())
}

#[tokio::test]
async fn no_other_redirect_uri_is_accepted() -> Result<()> {
    let local = Local::start().await?;
    let endpoint = local.discovery().await?["authorization_endpoint"].as_str().context("no endpoint")?.to_owned();
    for redirect_uri in [
        "http://127.0.0.1:9/other",
        "http://127.0.0.1:9/callback/",
        "http://127.0.0.1:9/callback?x=y",
        "http://127.0.0.1.evil.example:9/callback",
        "http://127.0.0.1:9@evil.example/callback",
        "http://evil.example/callback",
        "https://127.0.0.1:9/callback",
        "http://127.0.0.2:9/callback",
    ] {
        let mut browser = Browser::new()?;
        let answer = browser.send(Method::GET, authorize(&local, &endpoint, redirect_uri)?, None).await?;
        assert!(answer.status().is_client_error(), "{redirect_uri}: {}", answer.status());
        assert!(answer.headers().get("location").is_none(), "{redirect_uri}");
    }
    Ok(())
}

#[tokio::test]
async fn a_wrong_secret_gets_no_token() -> Result<()> {
    let local = Local::start().await?;
    let endpoint = local.discovery().await?["token_endpoint"].as_str().context("no endpoint")?.to_owned();
    for secret in ["wrong", ""] {
        let request = local.http.post(&endpoint).basic_auth(&local.ready.client_id, Some(secret));
        let refused = request.form(&[("grant_type", "client_credentials")]).send().await?;
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(refused.json::<Value>().await?["error"], "invalid_client");
    }
    Ok(())
}
