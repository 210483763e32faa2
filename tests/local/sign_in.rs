//! People: sign-in through the sidecar, and sign-out.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cloakroom_tests::browser::Browser;
use cloakroom_tests::html::Form;
use cloakroom_tests::local::{Echo, Local, Options};
use cloakroom_tests::{jwt_in, opaque_token_in};
use reqwest::{Method, StatusCode};
use url::Url;

const SESSION: &str = "__Host-cloakroom";

#[tokio::test]
async fn signing_in_leads_back_to_the_page_asked_for() -> Result<()> {
    let local = Local::start().await?;
    let mut browser = Browser::new()?;
    let start = browser.open(&local.app("/echo/some%20page?a=b&c=%2F")).await?;
    let page = browser.fill_in(&start, &local.ready.username, &local.ready.password).await?;
    assert_eq!(page.status, StatusCode::OK);
    assert_eq!(page.url.as_str(), local.app("/echo/some%20page?a=b&c=%2F"));
    let echo: Echo = serde_json::from_str(&page.body)?;
    assert_eq!(echo.target, "/echo/some%20page?a=b&c=%2F");
    assert_eq!(echo.header("cookie"), None, "the app sees neither session nor flow cookies");
    let claims = echo.claims()?;
    assert!(claims["sid"].is_string() && claims["auth_time"].is_number(), "{claims}");

    let session =
        page.way.iter().flat_map(|step| &step.set_cookies).find(|line| line.starts_with("__Host-cloakroom=cs_"));
    let session = session.context("no session cookie")?;
    for attribute in ["HttpOnly", "Secure", "SameSite=Lax", "Path=/"] {
        assert!(session.split("; ").any(|part| part == attribute), "{attribute} in {session}");
    }
    let flow =
        start.way[0].set_cookies.iter().find(|line| line.starts_with("__Host-cloakroom-flow-")).context("no flow")?;
    let name = flow.split('=').next().unwrap_or_default();
    assert!(!browser.cookie_names().contains(&name), "the flow's cookie is gone");
    Ok(())
}

#[tokio::test]
async fn no_token_and_no_jwt_shows_in_any_address_or_page_on_the_way() -> Result<()> {
    let local = Local::start().await?;
    let page = Browser::new()?.sign_in(&local, "/").await?;
    for step in &page.way {
        assert_eq!(opaque_token_in(step.url.as_str()), None, "{}", step.url);
        assert_eq!(jwt_in(step.url.as_str()), None, "{}", step.url);
        for line in &step.set_cookies {
            assert_eq!(jwt_in(line), None, "{line}");
        }
    }
    assert_eq!(opaque_token_in(&page.body), None);
    Ok(())
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_name_look_the_same() -> Result<()> {
    let local = Local::start().await?;
    let mut texts = Vec::new();
    for (username, password) in
        [(local.ready.username.as_str(), "not the password"), ("nobody-of-this-name", "whatever")]
    {
        let mut browser = Browser::new()?;
        let page = browser.open(&local.app("/")).await?;
        let page = browser.fill_in(&page, username, password).await?;
        assert_eq!(browser.cookie(SESSION), None);
        assert!(page.url.as_str().starts_with(&local.ready.auth_url), "{}", page.url);
        let mut text = page.body.replace(username, "NAME");
        for form in Form::all(&page.body) {
            for (_, value) in form.fields.iter().filter(|(_, value)| value.len() > 10) {
                text = text.replace(value, "VALUE");
            }
        }
        let (_, challenge) = page.body.split_once("data-challenge=\"").context("no passkey is asked for")?;
        text = text.replace(challenge.split('"').next().unwrap_or_default(), "VALUE");
        texts.push((page.status, text));
    }
    assert_eq!(texts[0], texts[1]);
    Ok(())
}

#[tokio::test]
async fn one_sign_in_serves_until_sign_out_and_then_the_same_cookie_is_refused() -> Result<()> {
    let local = Local::start().await?;
    let mut browser = Browser::new()?;
    browser.sign_in(&local, "/").await?;
    let cookie = format!("{SESSION}={}", browser.cookie(SESSION).context("no session")?);
    let with_cookie = async || {
        Ok::<_, anyhow::Error>(local.http.get(local.app("/echo")).header("Cookie", &cookie).send().await?.status())
    };
    assert_eq!(with_cookie().await?, StatusCode::OK);

    let out = browser.send(Method::POST, local.app("/.cloakroom/logout").parse()?, Some(&[])).await?;
    assert!(out.status().is_redirection() || out.status().is_success(), "{}", out.status());
    let start = Instant::now();
    while with_cookie().await? != StatusCode::UNAUTHORIZED {
        ensure!(start.elapsed() < Duration::from_secs(1), "still honoured after a second");
    }
    println!("from the sign-out's answer to the refusal: {:?}", start.elapsed());
    assert_eq!(browser.cookie(SESSION), None, "the browser was told to forget it");
    Ok(())
}

#[tokio::test]
async fn after_sign_out_the_next_page_asks_for_the_password_again() -> Result<()> {
    let local = Local::start().await?;
    let mut browser = Browser::new()?;
    let page = browser.sign_in(&local, "/").await?;
    let form = Form::to(&page.body, "/.cloakroom/logout")?;
    browser.submit(&page, &form).await?;
    let again = browser.open(&local.app("/")).await?;
    Form::with_password(&again.body).context("signed in again without a password")?;
    Ok(())
}

#[tokio::test]
async fn another_site_can_sign_nobody_out() -> Result<()> {
    let local = Local::start().await?;
    let mut browser = Browser::new()?;
    browser.sign_in(&local, "/").await?;
    let cookie = format!("{SESSION}={}", browser.cookie(SESSION).context("no session")?);
    let forged = local.http.post(local.app("/.cloakroom/logout")).header("Cookie", &cookie);
    let forged = forged.header("Origin", "https://evil.example").header("Sec-Fetch-Site", "cross-site").send().await?;
    assert!(forged.status().is_client_error(), "{}", forged.status());
    // A link asks at most.
    local.http.get(local.app("/.cloakroom/logout")).header("Cookie", &cookie).send().await?;
    let still = local.http.get(local.app("/echo")).header("Cookie", &cookie).send().await?;
    assert_eq!(still.status(), StatusCode::OK);
    Ok(())
}

#[tokio::test]
async fn a_cross_site_post_with_the_cookie_is_refused() -> Result<()> {
    let local = Local::start().await?;
    let mut browser = Browser::new()?;
    browser.sign_in(&local, "/").await?;
    let cookie = format!("{SESSION}={}", browser.cookie(SESSION).context("no session")?);
    let post = |site: &'static str| {
        local.http.post(local.app("/echo")).header("Cookie", &cookie).header("Sec-Fetch-Site", site).send()
    };
    assert_eq!(post("cross-site").await?.status(), StatusCode::FORBIDDEN);
    assert_eq!(post("same-origin").await?.status(), StatusCode::OK);
    Ok(())
}

/// Walks a sign-in up to the callback's address without going there. Asks for no password where the browser is signed in already.
async fn up_to_callback(browser: &mut Browser, local: &Local) -> Result<Url> {
    let mut url: Url = local.app("/echo").parse()?;
    let mut answer = browser.send(Method::GET, url.clone(), None).await?;
    for _ in 0..8 {
        if let Some(location) = answer.headers().get("location") {
            url = url.join(location.to_str()?)?;
            if url.path() == "/.cloakroom/callback" {
                return Ok(url);
            }
            answer = browser.send(Method::GET, url.clone(), None).await?;
        } else {
            let mut form = Form::with_password(&answer.text().await?)?;
            form.set_text(&local.ready.username)?;
            form.set_password(&local.ready.password)?;
            url = url.join(&form.action)?;
            answer = browser.send(Method::POST, url.clone(), Some(&form.fields)).await?;
        }
    }
    anyhow::bail!("never came to the callback")
}

#[tokio::test]
async fn a_callback_works_only_in_the_browser_that_began_and_only_once() -> Result<()> {
    let local = Local::start().await?;
    let mut browser = Browser::new()?;
    let callback = up_to_callback(&mut browser, &local).await?;

    let mut stranger = Browser::new()?;
    stranger.send(Method::GET, callback.clone(), None).await?;
    assert_eq!(stranger.cookie(SESSION), None, "somebody else's browser gets no session from a stolen link");

    let mut own = browser;
    let done = own.send(Method::GET, callback.clone(), None).await?;
    assert_eq!(done.status(), StatusCode::SEE_OTHER);
    let session = own.cookie(SESSION).context("no session")?.to_owned();
    own.send(Method::GET, callback, None).await?;
    assert!(own.cookie(SESSION).is_none_or(|now| now == session), "the code is used up");
    Ok(())
}

#[tokio::test]
async fn a_tampered_callback_signs_nobody_in() -> Result<()> {
    let local = Local::start().await?;
    for (name, value) in [("state", "x"), ("code", "x"), ("iss", "https://evil.example")] {
        let mut browser = Browser::new()?;
        let callback = up_to_callback(&mut browser, &local).await?;
        let mut tampered = callback.clone();
        let pairs = callback.query_pairs().map(|(n, v)| if n == name { (n, value.into()) } else { (n, v) });
        tampered.query_pairs_mut().clear().extend_pairs(pairs);
        if tampered == callback {
            tampered.query_pairs_mut().append_pair(name, value);
        }
        browser.send(Method::GET, tampered, None).await?;
        assert_eq!(browser.cookie(SESSION), None, "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn sign_in_returns_to_no_other_site() -> Result<()> {
    let local = Local::start().await?;
    for path in ["//evil.example/", "/\\evil.example/", "/%2F/evil.example"] {
        let mut browser = Browser::new()?;
        let Ok(page) = browser.open(&format!("{}{path}", local.ready.app_url)).await else { continue };
        if Form::with_password(&page.body).is_ok() {
            let page = browser.fill_in(&page, &local.ready.username, &local.ready.password).await?;
            assert!(page.url.as_str().starts_with(&local.ready.app_url), "{path} led to {}", page.url);
        }
    }
    Ok(())
}

#[tokio::test]
async fn several_tabs_can_sign_in_at_once() -> Result<()> {
    let local = Local::start().await?;
    let mut browser = Browser::new()?;
    let first = up_to_callback(&mut browser, &local).await?;
    let second = up_to_callback(&mut browser, &local).await?;
    assert_ne!(first, second);
    for callback in [second, first] {
        let done = browser.send(Method::GET, callback, None).await?;
        assert_eq!(done.status(), StatusCode::SEE_OTHER);
        assert_eq!(done.headers()["location"], "/echo");
        let page = browser.open(&local.app("/echo")).await?;
        assert_eq!((page.status, page.way.len()), (StatusCode::OK, 1), "signed in");
    }
    Ok(())
}

#[tokio::test]
async fn a_browser_without_cookies_gets_an_explanation_and_not_a_loop() -> Result<()> {
    let local = Local::start().await?;
    let mut browser = Browser::new()?;
    let callback = up_to_callback(&mut browser, &local).await?;
    browser.forget_cookies("__Host-cloakroom");
    let page = browser.open(callback.as_str()).await;
    let page = page.context("a loop")?;
    assert!(page.status.is_client_error() || Form::with_password(&page.body).is_ok(), "{page:?}");
    Ok(())
}

#[tokio::test]
async fn a_session_ends_when_its_time_is_over() -> Result<()> {
    let policy = include_str!("../../examples/local.yaml")
        .replace("idle: 30m", "idle: 60s")
        .replace("absolute: 12h", "absolute: 60s");
    let local = Local::start_with(Options { policy: Some(&policy), ..Options::default() }).await?;
    let mut browser = Browser::new()?;
    let page = browser.sign_in(&local, "/echo").await?;
    let claims = serde_json::from_str::<Echo>(&page.body)?.claims()?;
    let left = claims["exp"].as_i64().zip(claims["iat"].as_i64()).map(|(exp, iat)| exp - iat);
    assert!(left.is_some_and(|seconds| seconds <= 60), "no JWT outlives its session: {claims}");
    let cookie =
        page.way.iter().flat_map(|s| &s.set_cookies).find(|c| c.starts_with("__Host-cloakroom=")).context("cookie")?;
    let max_age = cookie.split("; ").find_map(|part| part.strip_prefix("Max-Age="));
    assert!(max_age.is_none_or(|seconds| seconds.parse::<u64>().is_ok_and(|s| s <= 60)), "{cookie}");
    Ok(())
}
