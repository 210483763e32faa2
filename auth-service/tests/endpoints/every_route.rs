//! What holds for every address of the public port, whoever adds one.

use http::Method;
use serde_json::json;

use crate::harness::{Answer, Browser, ISSUER, PASSWORD, Service, challenge, encode};

const ROUTES: &str = include_str!("../../src/routes.rs");
/// Redirect URIs of the client that the tests register.
const REGISTERED: [&str; 2] = ["https://app.example.com/cb", "https://app.example.com/bye"];
/// What may be kept: it is for everybody, and the same for all.
const SHARED: [&str; 5] = [
    "/assets/style.css",
    "/assets/passkeys.js",
    "/oauth2/jwks.json",
    "/.well-known/oauth-authorization-server",
    "/.well-known/openid-configuration",
];

/// The addresses of the public port, from the table that its router is made from.
fn routes() -> Vec<String> {
    let (_, table) = ROUTES.split_once("pub fn public(").unwrap();
    let (table, _) = table.split_once("pub fn internal(").unwrap();
    let first = |rest: &str| match rest.trim_start().strip_prefix('"') {
        Some(literal) => literal.split_once('"').unwrap().0.to_owned(),
        None => match rest.trim_start().split_once(',').unwrap().0 {
            "oauth::token::PATH" => "/oauth2/token".to_owned(),
            "oauth::userinfo::PATH" => "/oauth2/userinfo".to_owned(),
            "oauth::register::PATH" => "/oauth2/register".to_owned(),
            "&format!(\"{}/{{client_id}}\"" => "/oauth2/register/app".to_owned(),
            other => panic!("which path is {other}?"),
        },
    };
    table
        .split(".route(")
        .skip(1)
        .map(|rest| first(rest).replace("{provider}", "corp").replace("{client_id}", "app"))
        .collect()
}

async fn service() -> Service {
    let adjust = |config: &mut serde_json::Value| {
        config["registration"] = json!({"mode": "open"});
        config["limits"] = json!({"visits_per_address": 1_000_000});
        config["providers"] =
            json!([{"id": "corp", "name": "Corp", "issuer": "http://127.0.0.1:9", "client_id": "cloakroom"}]);
    };
    let service = Service::start_as(adjust, None).await;
    service.create_user("ann").await;
    let client = json!({"client_id": "app", "name": "App", "public": true, "redirect_uris": [REGISTERED[0]],
        "post_logout_redirect_uris": [REGISTERED[1]], "grant_types": ["authorization_code"], "scopes": ["openid"],
        "first_party": true});
    service.admin(Method::POST, "/clients", &client).await.expect(201);
    service
}

async fn signed_in(service: &Service) -> Browser {
    let mut browser = Browser::default();
    let to_page = browser.get(service, "/sign-in").await.expect(303);
    browser.sign_in(service, &to_page, "ann", PASSWORD).await.expect(303);
    browser
}

#[test]
fn the_table_is_read_whole() {
    let routes = routes();
    assert!(routes.len() > 30 && routes.iter().all(|route| route.starts_with('/')), "{routes:?}");
    for known in ["/sign-in", "/account/authenticator", "/oauth2/token", "/oauth2/introspect", "/"] {
        assert!(routes.iter().any(|route| route == known), "{known}: {routes:?}");
    }
}

#[tokio::test]
async fn nothing_is_framed_sniffed_or_kept_whatever_is_asked() {
    let service = service().await;
    let (mut stranger, mut ann) = (Browser::default(), signed_in(&service).await);
    for route in routes().iter().map(String::as_str).chain(["/nowhere", "/assets/nothing", "/%2e%2e/"]) {
        for (who, browser) in [("a stranger", &mut stranger), ("ann", &mut ann)] {
            for method in [Method::GET, Method::POST, Method::HEAD, Method::OPTIONS, Method::PUT] {
                let answer = browser.request(&service, method.clone(), route, String::new()).await;
                judge(&format!("{method} {route} as {who}"), route, &answer);
            }
        }
    }
}

#[track_caller]
fn judge(what: &str, route: &str, answer: &Answer) {
    assert_ne!(answer.status.as_u16(), 500, "{what}: {}", answer.body);
    let policy = answer.header("content-security-policy");
    for part in ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"] {
        assert!(policy.contains(part), "{what}: {policy}");
    }
    // Where forms may end is a question of its own: a provider is wherever it is.
    for directive in policy.split(';').filter(|directive| !directive.trim().starts_with("form-action")) {
        for loose in ["unsafe-", "*", "data:", "http"] {
            assert!(!directive.contains(loose), "{what}: {policy}");
        }
    }
    assert_eq!(answer.header("x-frame-options"), "DENY", "{what}");
    assert_eq!(answer.header("x-content-type-options"), "nosniff", "{what}");
    assert_eq!(answer.header("referrer-policy"), "same-origin", "{what}");
    let kept = answer.header("cache-control");
    if SHARED.contains(&route) && answer.status.is_success() {
        assert!(!kept.is_empty() && answer.header("set-cookie").is_empty(), "{what}: {kept}");
    } else {
        assert_eq!(kept, "no-store", "{what}: {}", answer.status);
    }
}

/// Addresses of somebody else's, as they were dressed up to pass where others compared.
fn addresses() -> Vec<String> {
    let mut addresses: Vec<String> = [
        "https://evil.example",
        "https://evil.example/cb",
        "http://app.example.com/cb",
        "//evil.example",
        "///evil.example",
        "////evil.example",
        "\\\\evil.example",
        "/\\evil.example",
        "\\/evil.example",
        "/\t/evil.example",
        "/\n/evil.example",
        "\r\nLocation: https://evil.example",
        "/%09/evil.example",
        "/%5cevil.example",
        "/%2f%2fevil.example",
        "%2f%2fevil.example",
        "https:evil.example",
        "https:/evil.example",
        "https:\\\\evil.example",
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)//https://app.example.com/cb",
        "data:text/html,<script>alert(1)</script>",
        "vbscript:x",
        "file:///etc/passwd",
        "https://app.example.com.evil.example/cb",
        "https://app.example.com@evil.example/cb",
        "https://app.example.com:443@evil.example/cb",
        "https://evil.example#@app.example.com/cb",
        "https://evil.example\\@app.example.com/cb",
        "https://evil.example?app.example.com/cb",
        "https://evil.example;app.example.com/cb",
        "https://app.example.com%2eevil.example/cb",
        "https://app.example.com%00.evil.example/cb",
        "https://app.example.com\u{2044}.evil.example/cb",
        "https://app\u{3002}example.com/cb",
        "https://\u{ff41}pp.example.com/cb",
        "https://app.example.com:8443/cb",
        "https://APP.example.com/cb",
        "https://app.example.com/cb/",
        "https://app.example.com/cb?x=1",
        "https://app.example.com/cb#x",
        "https://app.example.com/cb/../evil",
        "https://app.example.com/cb%2f..%2fevil",
        "https://app.example.com/./cb",
        "https://app.example.com//cb",
        "https://xapp.example.com/cb",
        "https://example.com/cb",
        "app.example.com/cb",
        ".evil.example",
        "@evil.example",
        ":evil.example",
        "https://[::ffff:7f00:1]/cb",
        "https://2130706433/cb",
        "\u{202e}moc.elpmaxe.live//:sptth",
        "\u{feff}https://evil.example",
        "https://evil.example/\u{0}https://app.example.com/cb",
    ]
    .map(str::to_owned)
    .to_vec();
    for before in [
        " ",
        "\t",
        "\r\n",
        "\u{0}",
        "\u{a0}",
        "\u{1}",
        "<>",
        "%20",
        "%0d%0a",
        "%00",
        "https://app.example.com/cb,",
        "https://app.example.com/cb ",
    ] {
        addresses.push(format!("{before}https://evil.example/"));
        addresses.push(format!("{before}//evil.example/"));
    }
    addresses
}

#[track_caller]
fn leads_nowhere_else(what: &str, answer: &Answer) {
    for value in answer.headers.get_all("location") {
        let location = value.to_str().unwrap_or_else(|_| panic!("{what}: {value:?}"));
        let url = url::Url::parse(ISSUER).unwrap().join(location).unwrap_or_else(|_| panic!("{what}: {location}"));
        let mut place = url.clone();
        place.set_query(None);
        let ours =
            url.origin().ascii_serialization() == ISSUER && location.starts_with('/') && !location.starts_with("//");
        assert!(ours || REGISTERED.contains(&place.as_str()), "{what}: {location}");
    }
    assert!(answer.headers.get("refresh").is_none(), "{what}");
    assert!(
        !answer.body.contains("href=\"https://evil") && !answer.body.contains("href=\"//"),
        "{what}: {}",
        answer.body
    );
    assert!(!answer.body.to_lowercase().contains("href=\"javascript"), "{what}: {}", answer.body);
}

#[tokio::test]
async fn no_parameter_of_any_address_leads_away() {
    let service = service().await;
    let mut browser = signed_in(&service).await;
    let names = [
        "rd",
        "redirect",
        "redirect_uri",
        "redirect_url",
        "return_to",
        "next",
        "url",
        "continue",
        "target",
        "flow",
        "state",
        "done",
        "user_code",
        "token",
        "request_uri",
        "post_logout_redirect_uri",
        "iss",
        "code",
        "gateways",
        "confirmed",
    ];
    for route in routes().iter().filter(|route| route.as_str() != "/account/sign-out") {
        for address in addresses() {
            let query = encode(&names.map(|name| (name, address.as_str())));
            let what = format!("{route} {address:?}");
            leads_nowhere_else(&what, &browser.get(&service, &format!("{route}?{query}")).await);
        }
    }
}

#[tokio::test]
async fn a_client_is_answered_where_it_is_registered_whatever_else_it_says() {
    let service = service().await;
    let mut browser = signed_in(&service).await;
    let challenge = challenge();
    let mut answered = 0;
    for address in addresses() {
        for (name, first) in [
            ("redirect_uri", false),
            ("state", true),
            ("scope", true),
            ("prompt", true),
            ("nonce", true),
            ("login_hint", true),
        ] {
            let mut form = vec![
                ("client_id", "app"),
                ("response_type", "code"),
                ("code_challenge", challenge.as_str()),
                ("code_challenge_method", "S256"),
            ];
            if first {
                form.push(("redirect_uri", REGISTERED[0]));
            }
            form.push((name, &address));
            let answer = browser.get(&service, &format!("/oauth2/authorize?{}", encode(&form))).await;
            let what = format!("{name} {address:?}");
            leads_nowhere_else(&what, &answer);
            if name == "redirect_uri" {
                assert_eq!(answer.status.as_u16(), 400, "{what}: {}", answer.location());
            } else if name == "state" {
                assert_eq!(
                    answer.location_parameter("state").as_deref(),
                    Some(address.as_str()),
                    "given back as it came"
                );
                answered += 1;
            }
        }
        let form = [("client_id", "app"), ("post_logout_redirect_uri", address.as_str())];
        let answer = browser.get(&service, &format!("/oauth2/logout?{}", encode(&form))).await;
        assert_eq!(answer.status.as_u16(), 400, "{address:?}: {}", answer.location());
        leads_nowhere_else(&address, &answer);
    }
    assert!(answered > 70, "the registered address works: {answered}");
}
