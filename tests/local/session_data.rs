//! The app writes to the session by a header of its answer.

use anyhow::Result;
use cloakroom_tests::browser::Browser;
use cloakroom_tests::local::{Echo, Local};
use serde_json::Value;

async fn session(browser: &mut Browser, local: &Local) -> Result<Value> {
    let page = browser.open(&local.app("/echo")).await?;
    Ok(serde_json::from_str::<Echo>(&page.body)?.claims()?["session"].clone())
}

#[tokio::test]
async fn what_the_app_writes_is_in_the_next_requests_jwt() -> Result<()> {
    let local = Local::start().await?;
    let mut browser = Browser::new()?;
    browser.sign_in(&local, "/").await?;
    let url = local.app("/session?key=cart&value=coat").parse()?;
    let written = browser.send(reqwest::Method::GET, url, None).await?;
    assert_eq!(written.status(), 200);
    assert_eq!(written.headers().get("cloakroom-session"), None, "the header is between app and sidecar");
    assert_eq!(session(&mut browser, &local).await?["cart"], "coat");

    browser.open(&local.app("/session?key=locale&value=de")).await?;
    let both = session(&mut browser, &local).await?;
    assert_eq!((&both["cart"], &both["locale"]), (&"coat".into(), &"de".into()));

    browser.open(&local.app("/session?key=cart")).await?;
    assert_eq!(session(&mut browser, &local).await?.get("cart"), None, "null removes (RFC 7396)");
    Ok(())
}

#[tokio::test]
async fn only_writable_keys_are_written_and_a_refusal_is_not_silent() -> Result<()> {
    let local = Local::start().await?;
    let mut browser = Browser::new()?;
    browser.sign_in(&local, "/").await?;
    let refused = browser.open(&local.app("/session?key=roles&value=admin")).await?;
    assert!(refused.status.is_server_error(), "the app's mistake: {}", refused.status);
    assert!(session(&mut browser, &local).await?.get("roles").is_none());
    Ok(())
}

#[tokio::test]
async fn concurrent_writes_are_never_lost_silently() -> Result<()> {
    let local = Local::start().await?;
    let mut browser = Browser::new()?;
    browser.sign_in(&local, "/").await?;
    let cookie = format!("__Host-cloakroom={}", browser.cookie("__Host-cloakroom").unwrap_or_default());
    let writes = (0..8).map(|n| {
        let (key, http, cookie) = (["cart", "locale"][n % 2], local.http.clone(), cookie.clone());
        let url = local.app(&format!("/session?key={key}&value=v{n}"));
        async move { http.get(url).header("Cookie", cookie).send().await.map(|answer| (n, answer.status())) }
    });
    let answers = futures::future::try_join_all(writes).await?;
    let written: Vec<_> =
        answers.iter().filter(|(_, status)| status.is_success()).map(|(n, _)| format!("v{n}")).collect();
    assert!(!written.is_empty(), "{answers:?}");
    let last = session(&mut browser, &local).await?;
    for key in ["cart", "locale"] {
        if let Some(value) = last.get(key).and_then(Value::as_str) {
            assert!(
                written.iter().any(|w| w == value),
                "{value} was answered with an error, and is there: {answers:?}"
            );
        }
    }
    Ok(())
}
