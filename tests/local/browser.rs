//! A real browser: what only it can tell, cookies and content security policies among it.

use std::time::Duration;

use anyhow::Result;
use cloakroom_tests::chromium::Chromium;
use cloakroom_tests::local::Local;
use fantoccini::Locator;

#[tokio::test]
async fn a_person_signs_in_sees_the_page_and_signs_out() -> Result<()> {
    let local = Local::start().await?;
    let chromium = Chromium::start().await?;
    let walked = walk(&local, &chromium).await;
    chromium.picture("last.png").await?;
    chromium.close().await?;
    walked
}

async fn walk(local: &Local, chromium: &Chromium) -> Result<()> {
    let page = &chromium.client;
    page.goto(&local.app("/?from=browser")).await?;
    assert!(page.current_url().await?.as_str().starts_with(&local.ready.auth_url));
    let passkey = page.find(Locator::Css("form[data-passkey=get]")).await?;
    assert!(passkey.is_displayed().await?, "a browser has passkeys for a page at localhost");
    assert_eq!(passkey.attr("data-rp").await?.as_deref(), Some("localhost"));
    chromium.picture("sign-in.png").await?;

    sign_in(chromium, local, "not the password").await?;
    assert!(page.current_url().await?.as_str().starts_with(&local.ready.auth_url));
    chromium.picture("wrong-password.png").await?;
    sign_in(chromium, local, &local.ready.password).await?;

    let wait = page.wait().at_most(Duration::from_secs(5));
    let title = wait.for_element(Locator::XPath("//h1[contains(., 'Signed in as')]")).await?;
    assert_eq!(page.current_url().await?.as_str(), local.app("/?from=browser"));
    println!("{}", title.text().await?);
    chromium.picture("signed-in.png").await?;
    let scripts_see = page.execute("return document.cookie", Vec::new()).await?;
    assert_eq!(scripts_see, "", "HttpOnly");

    page.find(Locator::Css("form[action='/.cloakroom/logout'] button")).await?.click().await?;
    let wait = page.wait().at_most(Duration::from_secs(5));
    wait.for_element(Locator::XPath("//h1[not(contains(., 'Signed in as'))]")).await?;
    chromium.picture("signed-out.png").await?;
    page.goto(&local.app("/")).await?;
    let wait = page.wait().at_most(Duration::from_secs(5));
    wait.for_element(Locator::Css("input[type=password]")).await?;
    Ok(())
}

async fn sign_in(chromium: &Chromium, local: &Local, password: &str) -> Result<()> {
    let page = &chromium.client;
    let name = page.find(Locator::Css("form input[type=text], form input[type=email], form input:not([type])")).await?;
    name.clear().await?;
    name.send_keys(&local.ready.username).await?;
    page.find(Locator::Css("input[type=password]")).await?.send_keys(password).await?;
    page.find(Locator::Css("form button[type=submit], form button:not([type])")).await?.click().await?;
    Ok(())
}
