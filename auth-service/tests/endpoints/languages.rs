//! Pages in other languages than English, and nothing on any page that is in none.

use std::collections::BTreeSet;

use fluent_syntax::ast::{Entry, PatternElement};
use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::factors::Authenticator;
use crate::harness::{Answer, Browser, PASSWORD, Service, encode};
use crate::oauth::{Bench, bench_with};

const ENGLISH: &str = include_str!("../../messages/en.ftl");
const GERMAN: &str = "\
sign-in = Anmelden
sign-in-to-continue = weiter zu { $application }
error-not-found = Diese Seite gibt es nicht
sign-out-question = <b>Abmelden?</b>
days-ago = { $count ->
    [one] vor einem Tag
   *[other] vor { $count } Tagen
}
scope-orders = Ihre Bestellungen sehen
";

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

/// With these languages, a provider that is never asked, and a scope that the configuration has words for.
async fn speaking(files: &[(&str, &str)]) -> Bench {
    let folder = folder(files);
    let adjust = |config: &mut Value| {
        config["messages"] = json!({"folder": folder.path()});
        config["scopes"] = json!({"orders": "See your orders"});
        config["providers"] =
            json!([{"id": "corp", "name": "Corp", "issuer": "http://127.0.0.1:9", "client_id": "cloakroom"}]);
    };
    // They are read at the start.
    bench_with(adjust).await
}

fn reader(languages: &'static str) -> Browser {
    Browser { languages: Some(languages), ..Browser::default() }
}

#[tokio::test]
async fn a_page_is_in_the_language_that_the_browser_asks_for_and_says_so() {
    let Bench { service, .. } = speaking(&[("de.ftl", GERMAN), ("he.ftl", "sign-in = כניסה")]).await;
    let page = reader("de-AT, en;q=0.5").get(&service, "/sign-in").await;
    let mut german = reader("de-AT, en;q=0.5");
    let to_page = german.get(&service, page.location()).await;
    assert_eq!(to_page.status, 400, "another browser's");
    assert!(to_page.body.contains("<html lang=\"de\" dir=\"ltr\">"));
    let to_page = german.get(&service, "/sign-in").await.expect(303);
    let page = german.get(&service, to_page.location()).await.expect(200);
    assert!(page.body.contains("<h1>Anmelden</h1>") && page.body.contains("User name"), "{}", page.body);
    assert_eq!(page.header("vary"), "accept-language");
    let missing = german.get(&service, "/nowhere").await.expect(404);
    assert!(missing.body.contains("<h1>Diese Seite gibt es nicht</h1>") && missing.header("vary") == "accept-language");
    let mut hebrew = reader("he");
    let to_page = hebrew.get(&service, "/sign-in").await.expect(303);
    let page = hebrew.get(&service, to_page.location()).await.expect(200);
    assert!(page.body.contains("<html lang=\"he\" dir=\"rtl\">") && page.body.contains("כניסה"), "{}", page.body);
}

#[tokio::test]
async fn what_the_application_asks_for_goes_before_what_the_browser_does_as_long_as_the_flow_lasts() {
    let bench = speaking(&[("de.ftl", GERMAN)]).await;
    let service = &bench.service;
    let mut browser = reader("en");
    let to_page = browser.get(service, &Bench::authorize(&[("ui_locales", "xx de en")])).await.expect(303);
    let page = browser.get(service, to_page.location()).await.expect(200);
    assert!(page.body.contains("<html lang=\"de\"") && page.body.contains("weiter zu <strong>The App</strong>"));
    let again = browser.sign_in(service, &to_page, "ann", "wrong").await.expect(422);
    assert!(again.body.contains("<html lang=\"de\""), "{}", again.body);
    let to_page = browser.get(service, &Bench::authorize(&[("ui_locales", "xx")])).await.expect(303);
    let page = browser.get(service, to_page.location()).await.expect(200);
    assert!(page.body.contains("<html lang=\"en\""));
    let refused = browser.get(service, &Bench::authorize(&[("ui_locales", &"de ".repeat(100))])).await.expect(303);
    assert_eq!(refused.location_parameter("error").as_deref(), Some("invalid_request"));

    browser.sign_in(service, &to_page, "ann", PASSWORD).await.expect(303);
    let asked = browser.get(service, "/oauth2/logout?ui_locales=de").await.expect(200);
    assert!(asked.body.contains("<h1>&#60;b&#62;Abmelden?&#60;/b&#62;</h1>"), "markup is text: {}", asked.body);
}

#[tokio::test]
async fn the_languages_that_there_are_can_be_discovered() {
    let Bench { service, .. } = speaking(&[("de.ftl", GERMAN), ("pt-BR.ftl", "")]).await;
    let document = service.send(Method::GET, &service.public("/.well-known/openid-configuration"), &[], "").await;
    assert_eq!(document.json()["ui_locales_supported"], json!(["de", "pt-BR", "en"]));
}

#[tokio::test]
async fn names_of_applications_and_people_are_neither_markup_nor_turn_a_page_around() {
    let Bench { service, .. } = speaking(&[("de.ftl", GERMAN)]).await;
    let name = "<script>alert(1)</script>\u{202e}knaB\u{2069}";
    let client = json!({"client_id": "evil", "name": name, "public": true, "scopes": ["openid"],
        "redirect_uris": ["https://app.example.com/cb"], "grant_types": ["authorization_code"]});
    service.admin(Method::POST, "/clients", &client).await.expect(201);
    let mut browser = reader("de");
    let url = Bench::authorize(&[("client_id", "evil"), ("scope", "openid")]);
    let to_page = browser.get(&service, &url).await.expect(303);
    let page = browser.get(&service, to_page.location()).await.expect(200);
    let shown = "weiter zu <strong>&#60;script&#62;alert(1)&#60;/script&#62;knaB</strong>";
    assert!(page.body.contains(shown), "{}", page.body);
    let back = browser.sign_in(&service, &to_page, "ann", PASSWORD).await.expect(303);
    let consent = browser.get(&service, back.location()).await.expect(200);
    assert!(!consent.body.contains("<script>") && !consent.body.contains('\u{202e}'), "{}", consent.body);
}

/// English with a mark before and after each message.
fn marked() -> String {
    let mut resource = fluent_syntax::parser::parse(ENGLISH.to_owned()).unwrap();
    let mark = |value: &str| PatternElement::TextElement { value: value.to_owned() };
    for entry in &mut resource.body {
        if let Entry::Message(message) = entry {
            let elements = &mut message.value.as_mut().unwrap().elements;
            elements.insert(0, mark("⟦"));
            elements.push(mark("⟧"));
        }
    }
    fluent_syntax::serializer::serialize(&resource)
}

/// Reads pages of the marked language.
#[derive(Default)]
struct Reader {
    titles: BTreeSet<String>,
}

/// What is data: names of people, applications and programs, and what the configuration says of a scope.
const DATA: [&str; 10] = [
    "See your orders",
    "Ann Example",
    "ann@example.com",
    "ann",
    "Cloakroom",
    "The App",
    "Living Room TV",
    "Corp",
    "curl",
    "My key",
];

impl Reader {
    /// Everything that somebody can read or hear is a message, or data.
    #[track_caller]
    fn reads(&mut self, answer: Answer, status: u16) -> Answer {
        let answer = answer.expect(status);
        assert!(answer.body.contains("<html lang=\"en-XA\""), "{}", answer.body);
        let title = between(&answer.body, "<title>", "</title>");
        assert!(title.starts_with('⟦'), "{title}");
        self.titles.insert(title.to_owned());
        let mut rest = unmarked(&visible(&answer.body));
        for data in DATA {
            rest = rest.replace(data, "");
        }
        let words = rest.split_whitespace().filter(|word| word.chars().any(char::is_alphabetic));
        assert_eq!(words.collect::<Vec<_>>(), Vec::<&str>::new(), "not from the file: {}", answer.body);
        answer
    }
}

fn between<'a>(text: &'a str, begin: &str, end: &str) -> &'a str {
    text.split_once(begin).and_then(|(_, rest)| rest.split_once(end)).map_or("", |(inner, _)| inner)
}

/// Texts, and attributes that are shown or read out; without codes, keys and pictures.
fn visible(html: &str) -> String {
    let mut html = html.to_owned();
    for (begin, end) in [("<code", "</code>"), ("<svg", "</svg>"), ("<style", "</style>")] {
        while let Some(from) = html.find(begin) {
            let to = html[from..].find(end).unwrap() + from + end.len();
            html.replace_range(from..to, "");
        }
    }
    let mut visible = String::new();
    for part in html.split('<').skip(1) {
        let (tag, text) = part.split_once('>').unwrap();
        for name in ["aria-label", "placeholder", "title", "alt", "data-failed", "data-known"] {
            visible.push_str(between(tag, &format!(" {name}=\""), "\""));
            visible.push(' ');
        }
        visible.push_str(text);
    }
    visible
}

/// What is outside of all marks.
fn unmarked(text: &str) -> String {
    let mut depth = 0;
    let mut outside = String::new();
    for c in text.chars() {
        match c {
            '⟦' => depth += 1,
            '⟧' => depth -= 1,
            c if depth == 0 => outside.push(c),
            _ => {}
        }
    }
    assert_eq!(depth, 0, "{text}");
    outside
}

async fn form(browser: &mut Browser, service: &Service, page: &Answer, url: &str, fields: &[(&str, &str)]) -> Answer {
    let (flow, csrf) = (page.field("flow"), page.field("csrf").unwrap());
    let mut form = vec![("csrf", csrf.as_str())];
    form.extend(flow.as_deref().map(|flow| ("flow", flow)));
    form.extend(fields);
    browser.post(service, url, &form).await
}

#[tokio::test]
async fn no_page_has_a_word_that_is_not_in_the_messages() {
    let bench = speaking(&[("en-XA.ftl", &marked())]).await;
    let service = &bench.service;
    let mut reader = Reader::default();
    let mut browser = Browser { languages: Some("en-XA"), ..Browser::default() };

    // Signing in, and failing to.
    let to_page = browser.get(service, &Bench::authorize(&[("prompt", "consent")])).await.expect(303);
    reader.reads(browser.get(service, to_page.location()).await, 200);
    reader.reads(browser.sign_in(service, &to_page, "ann", "wrong").await, 422);
    for done in ["password-reset", "declined"] {
        let to_page = browser.get(service, &format!("/sign-in?done={done}")).await.expect(303);
        reader.reads(browser.get(service, to_page.location()).await, 200);
    }
    browser.sign_in(service, &to_page, "ann", PASSWORD).await.expect(303);

    // The account, with nothing set up and then with everything.
    reader.reads(browser.get(service, "/account").await, 200);
    let page = reader.reads(browser.get(service, "/account/passkeys").await, 200);
    reader.reads(form(&mut browser, service, &page, "/account/passkeys", &[]).await, 422);
    reader.reads(browser.get(service, "/account/connections?done=declined").await, 200);
    let page = reader.reads(browser.get(service, "/account/password").await, 200);
    for (new, again) in [("a", "b"), ("short", "short"), ("password123", "password123")] {
        let fields = [("new_password", new), ("again", again)];
        reader.reads(form(&mut browser, service, &page, "/account/password", &fields).await, 422);
    }
    let page = reader.reads(browser.get(service, "/account/authenticator").await, 200);
    let offer = page.field("offer").unwrap();
    let wrong = form(&mut browser, service, &page, "/account/authenticator", &[("offer", &offer), ("code", "1")]).await;
    reader.reads(wrong, 422);
    let app = Authenticator::scan(&page);
    let codes = app.confirm(service, &mut browser, &page, "/account/authenticator").await;
    reader.reads(codes, 200);
    for done in ["signed-out", "authenticator-set-up&gateways=3&confirmed=1", "disconnected&gateways=1&confirmed=1"] {
        reader.reads(browser.get(service, &format!("/account?done={done}")).await, 200);
    }

    // The second factor, and consent.
    service.clock.pass(60);
    let mut other = Browser { languages: Some("en-XA"), ..Browser::default() };
    let client = json!({"client_id": "partner", "name": "The App", "public": true, "scopes": ["openid", "email", "orders"],
        "redirect_uris": ["https://app.example.com/cb"], "grant_types": ["authorization_code"]});
    service.admin(Method::POST, "/clients", &client).await.expect(201);
    let url = Bench::authorize(&[("client_id", "partner")]);
    let to_page = other.get(service, &url).await.expect(303);
    let to_code = other.sign_in(service, &to_page, "ann", PASSWORD).await.expect(303);
    let page = reader.reads(other.get(service, to_code.location()).await, 200);
    reader.reads(form(&mut other, service, &page, "/second-factor", &[("code", "000000")]).await, 422);
    reader.reads(form(&mut other, service, &page, "/second-factor", &[("recovery_code", "x")]).await, 422);
    let code = app.code(service);
    let to_consent = form(&mut other, service, &page, "/second-factor", &[("code", &code), ("trust", "yes")]).await;
    let page = reader.reads(other.get(service, to_consent.expect(303).location()).await, 200);
    form(&mut other, service, &page, "/consent", &[("decision", "allow")]).await.expect(303);
    reader.reads(other.get(service, "/account").await, 200);
    reader.reads(other.get(service, "/account/recovery-codes").await, 200);

    // A device.
    let television = json!({"client_id": "tv", "name": "Living Room TV", "public": true, "scopes": ["openid", "orders"],
        "grant_types": ["urn:ietf:params:oauth:grant-type:device_code"], "audiences": ["shop/web"]});
    service.admin(Method::POST, "/clients", &television).await.expect(201);
    for decision in ["allow", "deny"] {
        let asked = encode(&[("client_id", "tv"), ("scope", "openid orders")]);
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let url = service.public("/oauth2/device_authorization");
        let device = service.send(Method::POST, &url, &headers, asked).await.expect(200).json();
        let code = device["user_code"].as_str().unwrap();
        let page = reader.reads(other.get(service, "/device").await, 200);
        reader.reads(form(&mut other, service, &page, "/device", &[("user_code", "xx")]).await, 422);
        let page = reader.reads(form(&mut other, service, &page, "/device", &[("user_code", code)]).await, 200);
        let fields = [("user_code", code), ("decision", decision)];
        reader.reads(form(&mut other, service, &page, "/device", &fields).await, 200);
    }

    // A link of the administrator's, signing out, and what goes wrong.
    let users = service.admin(Method::GET, "/users?username=ann", &json!({})).await.expect(200).json();
    let id = users["items"][0]["id"].as_str().unwrap().to_owned();
    let link = service.admin(Method::POST, &format!("/users/{id}/password-reset"), &json!({})).await.expect(201).json();
    let link = link["url"].as_str().unwrap().strip_prefix(crate::harness::ISSUER).unwrap().to_owned();
    let moved = other.get(service, &link).await.expect(303);
    reader.reads(other.get(service, moved.location()).await, 200);
    let link = service.admin(Method::POST, &format!("/users/{id}/passkey-link"), &json!({})).await.expect(201).json();
    let link = link["url"].as_str().unwrap().strip_prefix(crate::harness::ISSUER).unwrap().to_owned();
    let moved = other.get(service, &link).await.expect(303);
    reader.reads(other.get(service, moved.location()).await, 200);
    reader.reads(other.get(service, "/oauth2/logout").await, 200);
    reader.reads(other.get(service, "/signed-out?gateways=2&confirmed=2").await, 200);
    for (path, status) in [
        ("/nowhere", 404),
        ("/sign-in?flow=gone", 400),
        ("/reset-password?token=gone", 400),
        ("/oauth2/authorize?client_id=nobody", 400),
        ("/sign-in/from/corp?state=x", 400),
        ("/oauth2/logout?post_logout_redirect_uri=https://evil.example", 400),
    ] {
        reader.reads(other.get(service, path).await, status);
    }
    let to_page = other.get(service, "/sign-in").await.expect(303);
    let flow = to_page.location_parameter("flow").unwrap();
    reader.reads(other.get(service, &format!("/sign-in/with/corp?flow={flow}")).await, 503);
    let technical = other.get(service, "/oauth2/authorize").await.expect(400);
    assert!(technical.body.contains("lang=\"en\" dir=\"ltr\">client_id is missing</p>"), "{}", technical.body);

    let pages = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/templates")).unwrap().filter(|entry| {
        let path = entry.as_ref().unwrap().path();
        std::fs::read_to_string(path).unwrap().contains("{% extends \"layout.html\" %}")
    });
    // Errors have their heading as the title: several for one page. The three of a device share one.
    let shared = 2;
    let errors = reader.titles.iter().filter(|title| !title.contains('–')).count();
    assert_eq!(reader.titles.len() - errors + 1 + shared, pages.count(), "a page was not read: {:?}", reader.titles);
}

#[test]
fn the_reader_finds_words_that_are_in_no_message() {
    assert_eq!(unmarked("⟦a ⟦b⟧ c⟧ d"), " d");
    assert!(visible("<html><p title=\"x\">y</p><code>z</code></html>").contains('y'));
    assert!(!visible("<html><code>z</code></html>").contains('z') && visible("<p title=\"x\">").contains('x'));
    let found = std::panic::catch_unwind(|| {
        let body = "<html lang=\"en-XA\"><title>⟦t⟧</title><p>⟦Sign in⟧ now</p></html>".to_owned();
        Reader::default().reads(Answer { status: http::StatusCode::OK, headers: http::HeaderMap::new(), body }, 200);
    });
    assert!(found.is_err());
}
