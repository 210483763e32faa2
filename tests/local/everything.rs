//! One policy with everything in it, and what it makes of callers of every kind.

use anyhow::{Context, Result, ensure};
use cloakroom_tests::browser::Browser;
use cloakroom_tests::local::{Echo, Local};
use reqwest::{Method, Response};

const POLICY: &str = "
apiVersion: cloakroom.dev/v1alpha1
kind: AuthPolicy
metadata: {name: everything, namespace: local}
spec:
  selector: {matchLabels: {app: everything}}
  ports: [http]
  interception: Redirect
  mode: Enforce
  rollout: Automatic
  origins: ['https://shop.example.com']
  trustedProxies: [127.0.0.0/8]
  token:
    sources: [{cookie: __Host-cloakroom}, {header: Authorization, scheme: Bearer}, {header: X-Api-Key}]
  unauthenticated: Auto
  preflight: Pass
  session: {idle: 30m, absolute: 12h, writable: [cart, locale]}
  jwt: {header: Authorization, audience: 'urn:everything', lifetime: 60s, claims: [email, groups], claimHeaders: {X-User-Email: email}}
  outage: {mode: Lease, for: 30s}
  rules:
  - {match: [{path: /healthz}], access: Anonymous}
  - {match: [{path: '/maybe/**'}], access: Optional}
  - {match: [{path: '/never/**'}], access: Deny}
  - match: [{path: '/admin/**', methods: [GET]}, {path: '/orders/{id}'}]
    require: {scopes: [orders], roles: [admin]}
  - match: [{path: '/pay/**'}]
    require: {acr: mfa}
  - match: [{path: '/fresh/**'}]
    require: {maxAge: 15m}
    outage: {mode: Deny}
  - {match: [{path: '/page/**'}], unauthenticated: Redirect}
  - {match: [{path: '/api/**'}], unauthenticated: Deny}
  limits: {requestHeaders: 8Ki, requestBody: 1Ki, idleTimeout: 60s}
";

/// What a caller brings.
#[derive(Clone, Copy, Debug)]
enum Who {
    Nobody,
    Junk,
    /// An access token of a client's, without scope.
    Client,
    /// With the scope `orders`.
    Scoped,
    /// An API key in `X-Api-Key`.
    Key,
    /// Two tokens.
    Both,
    /// The demo user's browser, who is an administrator.
    Person,
}

use Who::{Both, Client, Junk, Key, Nobody, Person, Scoped};

const PAGE: &[(&str, &str)] = &[("Sec-Fetch-Mode", "navigate"), ("Accept", "text/html")];
const FETCH: &[(&str, &str)] = &[("Sec-Fetch-Mode", "cors"), ("Sec-Fetch-Site", "same-origin")];
const PREFLIGHT: &[(&str, &str)] = &[("Origin", "https://www.example.com"), ("Access-Control-Request-Method", "PUT")];
const CROSS_SITE: &[(&str, &str)] = &[("Sec-Fetch-Site", "cross-site")];

/// Caller, method, path, headers; status, and what a header of the answer holds.
type Case = (Who, &'static str, &'static str, &'static [(&'static str, &'static str)], u16, &'static str, &'static str);

const CASES: &[Case] = &[
    // Access.
    (Nobody, "GET", "/healthz", &[], 200, "", ""),
    (Nobody, "GET", "/maybe/x", &[], 200, "", ""),
    (Junk, "GET", "/maybe/x", &[], 200, "", ""),
    (Key, "GET", "/maybe/x", &[], 200, "", ""),
    (Nobody, "GET", "/never/x", &[], 403, "content-type", "application/problem+json"),
    (Person, "GET", "/never/x", PAGE, 403, "content-type", "text/html"),
    // No token, by the policy's word and by a rule's.
    (Nobody, "GET", "/x", &[], 401, "www-authenticate", "resource_metadata="),
    (Nobody, "GET", "/x", FETCH, 401, "www-authenticate", "Bearer"),
    (Nobody, "GET", "/x", PAGE, 303, "location", "/oauth2/authorize"),
    (Nobody, "GET", "/page/x", FETCH, 303, "location", "/oauth2/authorize"),
    (Nobody, "GET", "/api/x", PAGE, 401, "www-authenticate", "Bearer"),
    (Junk, "GET", "/api/x", &[], 401, "www-authenticate", "error=\"invalid_token\""),
    (Junk, "GET", "/x", PAGE, 401, "www-authenticate", "error=\"invalid_token\""),
    // Where tokens may be.
    (Client, "GET", "/x", &[], 200, "", ""),
    (Key, "GET", "/x", &[], 200, "", ""),
    (Person, "GET", "/x", PAGE, 200, "", ""),
    (Both, "GET", "/x", &[], 400, "", ""),
    // What a rule requires, and of which methods.
    (Client, "GET", "/orders/7", &[], 403, "www-authenticate", "error=\"insufficient_scope\""),
    (Client, "GET", "/admin/x", &[], 403, "www-authenticate", "scope=\"orders\""),
    (Scoped, "GET", "/admin/x", &[], 403, "cloakroom-decision", ""),
    (Client, "POST", "/admin/x", &[], 200, "", ""),
    (Client, "GET", "/orders/7/lines", &[], 200, "", ""),
    // Stepping up: a page is sent to do it, a program is told what is missing (RFC 9470).
    (
        Client,
        "GET",
        "/pay/x",
        &[],
        401,
        "www-authenticate",
        "error=\"insufficient_user_authentication\", acr_values=\"mfa\"",
    ),
    (Person, "GET", "/pay/x", FETCH, 401, "www-authenticate", "acr_values=\"mfa\""),
    (Person, "GET", "/pay/x", PAGE, 303, "location", "/oauth2/authorize"),
    (Client, "GET", "/fresh/x", &[], 401, "www-authenticate", "max_age=\"900\""),
    (Person, "GET", "/fresh/x", PAGE, 200, "", ""),
    // Browsers' questions, and other sites' pages.
    (Nobody, "OPTIONS", "/x", PREFLIGHT, 200, "", ""),
    (Nobody, "OPTIONS", "/never/x", PREFLIGHT, 403, "", ""),
    (Person, "POST", "/x", CROSS_SITE, 403, "", ""),
    (Client, "POST", "/x", CROSS_SITE, 200, "", ""),
];

struct Callers<'l> {
    local: &'l Local,
    client: String,
    scoped: String,
    cookie: String,
}

impl<'l> Callers<'l> {
    async fn of(local: &'l Local) -> Result<Self> {
        let mut browser = Browser::new()?;
        browser.sign_in(local, "/x").await?;
        let session = browser.cookie("__Host-cloakroom").context("no session")?;
        Ok(Self {
            client: local.access_token(None).await?,
            scoped: local.access_token(Some("orders")).await?,
            cookie: format!("__Host-cloakroom={session}"),
            local,
        })
    }

    async fn ask(
        &self,
        who: Who,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Response> {
        let mut request = self.local.http.request(Method::from_bytes(method.as_bytes())?, self.local.app(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let key = &self.local.ready.api_key;
        let request = match who {
            Nobody => request,
            Junk => request.bearer_auth("junk"),
            Client => request.bearer_auth(&self.client),
            Scoped => request.bearer_auth(&self.scoped),
            Key => request.header("X-Api-Key", key),
            Both => request.bearer_auth(&self.client).header("X-Api-Key", key),
            Person => request.header("Cookie", &self.cookie),
        };
        Ok(if body.is_empty() { request } else { request.body(body) }.send().await?)
    }

    async fn echo(&self, who: Who, path: &str, headers: &[(&str, &str)]) -> Result<Echo> {
        let answer = self.ask(who, "GET", path, headers, Vec::new()).await?;
        Ok(answer.error_for_status()?.json().await?)
    }
}

#[tokio::test]
async fn every_part_of_a_policy_does_what_it_says() -> Result<()> {
    let local = Local::start_under(POLICY).await?;
    let callers = Callers::of(&local).await?;
    let mut wrong = Vec::new();
    for (who, method, path, headers, status, name, part) in CASES {
        let answer = callers.ask(*who, method, path, headers, Vec::new()).await?;
        let held = answer.headers().get(*name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let has = name.is_empty() || answer.headers().contains_key(*name) && held.contains(part);
        if answer.status().as_u16() != *status || !has {
            wrong.push(format!("{who:?} {method} {path} {headers:?}: {} {name}: {held}", answer.status()));
        }
    }
    ensure!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(callers.ask(Client, "POST", "/x", &[], vec![b'x'; 1025]).await?.status(), 413);
    let large = "x".repeat(9000);
    assert_eq!(callers.ask(Client, "GET", "/x", &[("X-Large", &large)], Vec::new()).await?.status(), 431);
    Ok(())
}

#[tokio::test]
async fn the_app_learns_who_it_is_from_the_sidecar_alone() -> Result<()> {
    let local = Local::start_under(POLICY).await?;
    let callers = Callers::of(&local).await?;
    let forged = [
        ("X-User-Email", "forged@example.com"),
        ("X_User_Email", "forged@example.com"),
        ("X-Forwarded-For", "9.9.9.9"),
    ];
    let person = callers.echo(Person, "/x", &forged).await?;
    let claims = person.claims()?;
    assert_eq!((&claims["aud"], &claims["email"]), (&"urn:everything".into(), &"demo@example.com".into()));
    assert_eq!(person.header("x-user-email"), Some("demo@example.com"));
    assert_eq!(person.header("x-forwarded-for"), Some("9.9.9.9, 127.0.0.1"), "the trusted proxy's word goes on");
    for who in [Nobody, Junk] {
        let echo = callers.echo(who, "/maybe/x", &forged).await?;
        assert_eq!((echo.header("authorization"), echo.header("x-user-email")), (None, None), "{who:?}");
    }
    let key = callers.echo(Key, "/x", &[]).await?;
    assert_eq!((key.header("x-api-key"), &key.claims()?["aud"]), (None, &"urn:everything".into()));
    Ok(())
}

#[tokio::test]
async fn in_shadow_everything_passes_and_nobody_seems_more_than_they_are() -> Result<()> {
    let local = Local::start_under(&POLICY.replace("mode: Enforce", "mode: Shadow")).await?;
    let client = local.access_token(None).await?;
    let forged = ("X-User-Email", "forged@example.com");
    for path in ["/x", "/never/x", "/orders/7", "/pay/x"] {
        for (token, known) in [("", false), ("junk", false), (client.as_str(), true)] {
            let request = local.http.get(local.app(path)).header(forged.0, forged.1);
            let request = if token.is_empty() { request } else { request.bearer_auth(token) };
            let echo: Echo = request.send().await?.error_for_status()?.json().await?;
            assert_eq!(echo.header("x-user-email"), None, "{path}");
            // A rule that denies everybody asks nobody who they are. What is no token of ours may be one of the app's.
            if known && path != "/never/x" {
                echo.claims()?;
            } else {
                let left = (token == "junk").then_some("Bearer junk");
                assert_eq!(echo.header("authorization"), left, "{path} with {token:?}");
            }
        }
    }
    Ok(())
}
