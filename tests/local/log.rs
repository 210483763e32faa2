//! What the sidecar says of requests: one line each in its log, under the id that the answer bears, and the counters of port 15020.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cloakroom_tests::local::{Echo, Local, Options};
use cloakroom_tests::raw;
use reqwest::Response;
use serde_json::Value;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

const POLICY: &str = "
apiVersion: cloakroom.dev/v1alpha1
kind: AuthPolicy
metadata: {name: log, namespace: local}
spec:
  selector: {matchLabels: {app: log}}
  mode: MODE
  origins: ['https://shop.example.com']
  trustedProxies: [127.0.0.0/8]
  rules:
  - {match: [{path: '/open/**'}], access: Anonymous}
  - {match: [{path: '/never/**'}], access: Deny}
  - {match: [{path: '/admin/**', methods: [GET]}], require: {roles: [admin]}}
  limits: {requestBody: 1Ki}
";
const PATIENCE: Duration = Duration::from_secs(10);

/// A sidecar whose port 15020 can be asked.
struct Watched {
    local: Local,
    health: String,
}

impl Watched {
    async fn start(mode: &str) -> Result<Self> {
        Self::before(mode, None).await
    }

    /// In front of this app instead of the sample one.
    async fn before(mode: &str, app: Option<SocketAddr>) -> Result<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let mut arguments = vec!["--health-port".to_owned(), port.to_string()];
        arguments.extend(app.into_iter().flat_map(|app| ["--upstream".to_owned(), app.to_string()]));
        let policy = POLICY.replace("MODE", mode);
        let local = Local::start_with(Options { policy: Some(&policy), arguments }).await?;
        Ok(Self { local, health: format!("http://127.0.0.1:{port}") })
    }

    async fn set_level(&self, level: &str) -> Result<()> {
        let put = self.local.http.put(format!("{}/log-level", self.health)).body(level.to_owned());
        put.send().await?.error_for_status()?;
        Ok(())
    }

    async fn metrics(&self) -> Result<String> {
        Ok(self.local.http.get(format!("{}/metrics", self.health)).send().await?.text().await?)
    }

    fn lines_with(&self, field: &str, value: &str) -> Result<Vec<Value>> {
        let lines = self.local.log()?;
        let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        Ok(lines.filter(|line| line[field] == value).collect())
    }

    /// The one line about this decision.
    async fn line_about(&self, id: &str) -> Result<Value> {
        self.line_with("decision_id", id).await
    }

    /// Lines are written a few times a second.
    async fn line_with(&self, field: &str, value: &str) -> Result<Value> {
        let end = Instant::now() + PATIENCE;
        loop {
            let lines = self.lines_with(field, value)?;
            ensure!(lines.len() < 2, "{lines:?}");
            if let Some(line) = lines.into_iter().next() {
                return Ok(line);
            }
            ensure!(Instant::now() < end, "no line about {value} in {}", self.local.log()?);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn decision(answer: &Response) -> Result<String> {
    let id = answer.headers().get("cloakroom-decision").with_context(|| format!("no decision id in {answer:?}"))?;
    Ok(id.to_str()?.to_owned())
}

const PAGE: &[(&str, &str)] = &[("Sec-Fetch-Mode", "navigate"), ("Accept", "text/html")];
const SHOP: &[(&str, &str)] = &[
    ("Sec-Fetch-Mode", "navigate"),
    ("Accept", "text/html"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "shop.example.com"),
];
const ELSEWHERE: &[(&str, &str)] =
    &[("Sec-Fetch-Mode", "navigate"), ("Accept", "text/html"), ("X-Forwarded-Host", "elsewhere.example.com")];
const CALL: &[(&str, &str)] = &[("Content-Type", "application/grpc")];

/// Method, path, headers, length of the body; status, message, part of the reason, route.
type Case = (&'static str, &'static str, &'static [(&'static str, &'static str)], usize, u16, [&'static str; 3]);

const CASES: &[Case] = &[
    ("GET", "/x?secret=1", &[], 0, 401, ["denied", "no token", "no rule"]),
    ("GET", "/never/x", &[], 0, 403, ["denied", "a rule denies this", "/never/**"]),
    ("GET", "/x", SHOP, 0, 303, ["sent to sign in", "no token", "no rule"]),
    ("GET", "/x", ELSEWHERE, 0, 421, ["denied", "no token", "no rule"]),
    ("POST", "/never/x", CALL, 0, 200, ["denied", "a rule denies this", "/never/**"]),
    ("POST", "/open/x", &[], 2000, 413, ["denied", "larger than the limit", "/open/**"]),
    ("GET", "/a%2Fb", &[], 0, 400, ["denied", "", ""]),
    ("GET", "/.cloakroom/nothing", &[], 0, 404, ["denied", "Not found", ""]),
    ("GET", "/.cloakroom/nothing", PAGE, 0, 404, ["denied", "Not found", ""]),
    ("PUT", "/.cloakroom/session", &[], 0, 405, ["denied", "not allowed", ""]),
    ("GET", "/.cloakroom/proof", &[], 0, 400, ["denied", "nonce", ""]),
    ("POST", "/.cloakroom/logout?scope=all", &[], 0, 400, ["denied", "scope is", ""]),
    ("GET", "/.cloakroom/callback", &[], 0, 400, ["denied", "Not signed in", ""]),
];

#[tokio::test]
async fn every_answer_of_the_sidecars_bears_the_id_of_its_line() -> Result<()> {
    let watched = Watched::start("Enforce").await?;
    let http2 = reqwest::Client::builder().http2_prior_knowledge().no_proxy().build()?;
    for case @ (method, path, headers, length, status, [message, reason, route]) in CASES {
        let client = if *headers == CALL { &http2 } else { &watched.local.http };
        let mut request = client.request(method.parse()?, watched.local.app(path));
        for (name, value) in *headers {
            request = request.header(*name, *value);
        }
        let request = request.header("X-Forwarded-For", "6.6.6.6, 9.9.9.9").body("x".repeat(*length));
        let answer = request.send().await?;
        assert_eq!(answer.status().as_u16(), *status, "{case:?}");
        let id = decision(&answer)?;
        let line = watched.line_about(&id).await?;
        assert_eq!((&line["message"], &line["level"]), (&Value::from(*message), &"info".into()), "{case:?}: {line}");
        assert_eq!((&line["status"], &line["method"]), (&Value::from(*status), &Value::from(*method)), "{line}");
        assert!(line["reason"].as_str().is_some_and(|text| text.contains(reason)), "{case:?}: {line}");
        assert_eq!(line["route"].as_str().unwrap_or_default(), *route, "{case:?}: {line}");
        assert!(line["duration_ms"].as_f64().is_some_and(|took| took > 0.0), "{line}");
        assert!(!line.to_string().contains("secret"), "no query: {line}");
        // The head of what could be read in two ways is not believed.
        let client = if path.contains('%') { "127.0.0.1" } else { "9.9.9.9" };
        assert_eq!(line["client"], client, "{case:?}: {line}");
        if *headers == CALL {
            assert_eq!(
                (&line["grpc_status"], &answer.headers()["grpc-status"]),
                (&"7".into(), &"7".parse()?),
                "{line}"
            );
        } else if *status > 400 && !headers.is_empty() {
            assert!(answer.text().await?.contains(&id), "people see it, too: {case:?}");
        } else if *status > 400 {
            assert_eq!(answer.json::<Value>().await?["decision_id"], *id, "{case:?}");
        }
    }
    let metrics = watched.metrics().await?;
    for sample in [
        "cloakroom_requests_total{outcome=\"own_path\"} 6\n",
        "cloakroom_requests_total{outcome=\"sent_to_sign_in\"} 1\n",
        "cloakroom_route_requests_total{route=\"/never/**\",outcome=\"forbidden\"} 2\n",
        "cloakroom_route_requests_total{route=\"/open/**\",outcome=\"refused\"} 1\n",
        "cloakroom_route_requests_total{route=\"no rule\",outcome=\"unauthenticated\"} 1\n",
        // What is answered 421 was not sent anywhere.
        "cloakroom_route_requests_total{route=\"no rule\",outcome=\"refused\"} 1\n",
        // Whoever answers.
        "cloakroom_request_seconds_count{route=\"/never/**\"} 2\n",
        "cloakroom_request_seconds_bucket{route=\"no rule\",le=\"64\"} 3\n",
    ] {
        assert!(metrics.contains(sample), "{sample}{metrics}");
    }
    Ok(())
}

#[tokio::test]
async fn bytes_that_are_no_request_have_a_line_too() -> Result<()> {
    let watched = Watched::start("Enforce").await?;
    for bytes in
        ["GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"]
    {
        let answer = raw::exchange(&watched.local.ready.app_url, bytes).await?;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        let field = answer
            .lines()
            .find_map(|line| line.to_ascii_lowercase().starts_with("cloakroom-decision: ").then(|| line.to_owned()));
        let field = field.with_context(|| answer.clone())?;
        let line = watched.line_about(field.split(": ").nth(1).context("no value")?).await?;
        assert_eq!((&line["message"], &line["status"]), (&"denied".into(), &400.into()), "{line}");
    }
    Ok(())
}

#[tokio::test]
async fn shadow_mode_says_what_it_would_have_denied_and_the_app_learns_under_which_id() -> Result<()> {
    let watched = Watched::start("Shadow").await?;
    let answer = watched.local.http.get(watched.local.app("/never/x")).send().await?;
    assert_eq!(answer.status(), 200);
    let id = decision(&answer)?;
    let echo: Echo = answer.json().await?;
    assert_eq!(echo.header("cloakroom-decision"), Some(&*id));
    let line = watched.line_about(&id).await?;
    for (name, value) in
        [("message", "would deny"), ("route", "/never/**"), ("reason", "a rule denies this to everybody")]
    {
        assert_eq!(line[name], value, "{line}");
    }
    assert_eq!(line["status"], 200, "what the client really got: {line}");
    let metrics = watched.metrics().await?;
    assert!(metrics.contains("cloakroom_shadow_denials_total 1\n"), "{metrics}");
    let forged =
        watched.local.http.get(watched.local.app("/open/x")).header("Cloakroom-Decision", "forged").send().await?;
    assert!(forged.headers().get("cloakroom-decision").is_none(), "nothing is logged of it: {forged:?}");
    assert_eq!(forged.json::<Echo>().await?.header("cloakroom-decision"), None);
    Ok(())
}

#[tokio::test]
async fn at_debug_every_request_has_its_line_and_at_error_none() -> Result<()> {
    let watched = Watched::start("Enforce").await?;
    let local = &watched.local;
    let open = || local.http.get(local.app("/open/x"));
    assert!(open().send().await?.headers().get("cloakroom-decision").is_none(), "nothing is logged of it");

    watched.set_level("debug").await?;
    let token = local.access_token(None).await?;
    let answer =
        local.http.get(local.app("/echo")).bearer_auth(&token).header("X-Forwarded-For", "9.9.9.9").send().await?;
    let id = decision(&answer)?;
    let echo: Echo = answer.error_for_status()?.json().await?;
    assert_eq!(echo.header("cloakroom-decision"), Some(&*id), "so that the app can log it, too");
    let line = watched.line_about(&id).await?;
    for (name, value) in [
        ("message", "passed"),
        ("level", "debug"),
        ("method", "GET"),
        ("path", "/echo"),
        ("client", "9.9.9.9"),
        ("route", "no rule"),
    ] {
        assert_eq!(line[name], value, "{line}");
    }
    assert_eq!(line["status"], 200, "{line}");
    assert!(line["duration_ms"].as_f64().is_some_and(|took| took > 0.0), "{line}");
    let session = line["session_id"].as_str().context("no session id")?;
    assert!(!session.is_empty() && token.contains(session) && !line.to_string().contains(&token), "{line}");
    let answered = local.http.get(local.app("/.cloakroom/session")).send().await?;
    assert_eq!(watched.line_about(&decision(&answered)?).await?["message"], "answered");

    let mut upgrade = local.app("/ws").replacen("http", "ws", 1).into_client_request()?;
    upgrade.headers_mut().insert("authorization", format!("Bearer {token}").parse()?);
    let (_socket, switched) = tokio_tungstenite::connect_async(upgrade).await?;
    let id = switched.headers().get("cloakroom-decision").context("no decision id")?.to_str()?.to_owned();
    let line = watched.line_about(&id).await?;
    assert_eq!((&line["message"], &line["status"]), (&"passed".into(), &101.into()), "{line}");
    let metrics = watched.metrics().await?;
    assert!(metrics.contains("cloakroom_request_seconds_count{route=\"no rule\"} 2\n"), "upgrades, too: {metrics}");

    watched.set_level("error").await?;
    let quiet = decision(&local.http.get(local.app("/never/x")).send().await?)?;
    watched.set_level("info").await?;
    let loud = decision(&local.http.get(local.app("/never/x")).send().await?)?;
    watched.line_about(&loud).await?;
    assert!(watched.lines_with("decision_id", &quiet)?.is_empty(), "{}", local.log()?);
    Ok(())
}

/// An app that leaks, dies inside its answer or answers nothing.
fn bad_app() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || misbehave(stream));
        }
    });
    Ok(address)
}

fn misbehave(mut stream: TcpStream) -> Option<()> {
    let lines = BufReader::new(stream.try_clone().ok()?).lines().map_while(Result::ok);
    let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let line = head.first()?;
    if line.contains("/leak") {
        let jwt = head.iter().find_map(|field| field.strip_prefix("Authorization: Bearer "))?;
        write!(stream, "HTTP/1.1 200 OK\r\nX-Token: {jwt}\r\nContent-Length: 0\r\n\r\n").ok()?;
    } else if line.contains("/malformed") {
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n").ok()?;
    } else if line.contains("/dies") {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort").ok()?;
        // So that the answer has begun when it ends.
        thread::sleep(Duration::from_millis(300));
    }
    Some(())
}

#[tokio::test]
async fn an_app_that_misbehaves_is_in_the_log() -> Result<()> {
    let watched = Watched::before("Enforce", Some(bad_app()?)).await?;
    let local = &watched.local;
    let token = local.access_token(None).await?;
    let leak = local.http.get(local.app("/leak")).bearer_auth(&token).send().await?;
    assert_eq!(leak.headers()["x-token"], token.as_str());
    let line = watched.line_about(&decision(&leak)?).await?;
    assert_eq!(
        (&line["message"], &line["path"]),
        (&"replaced the JWT in a response".into(), &"/leak".into()),
        "{line}"
    );

    let dies = local.http.get(local.app("/open/dies")).send().await?;
    assert_eq!(dies.status(), 200);
    dies.bytes().await.expect_err("the end is missing");
    let line = watched.line_with("path", "/open/dies").await?;
    let said = [&line["message"], &line["route"], &line["reason"]];
    assert_eq!(said, ["cut", "/open/**", "the app's connection ended inside its answer"], "{line}");
    assert_eq!(line["status"], 200, "{line}");

    // Where even what passes is logged, each has its one line.
    watched.set_level("debug").await?;
    for path in ["/open/nothing", "/open/malformed"] {
        let failed = local.http.get(local.app(path)).send().await?;
        assert_eq!(failed.status(), 502);
        let line = watched.line_about(&decision(&failed)?).await?;
        assert_eq!((&line["message"], &line["status"]), (&"failed".into(), &502.into()), "{line}");
    }
    let metrics = watched.metrics().await?;
    for sample in [
        "cloakroom_jwt_leaks_total 1\n",
        "cloakroom_answers_cut_total{reason=\"app_closed\"} 1\n",
        "cloakroom_route_requests_total{route=\"/open/**\",outcome=\"upstream_failed\"} 2\n",
        "cloakroom_request_seconds_count{route=\"/open/**\"} 3\n",
    ] {
        assert!(metrics.contains(sample), "{sample}{metrics}");
    }
    Ok(())
}

/// As in the pod, where there is nothing but this binary.
#[tokio::test]
async fn the_sidecars_own_binary_tells_and_changes_the_level() -> Result<()> {
    let watched = Watched::start("Enforce").await?;
    let binary = cloakroom_tests::local::binary()?.with_file_name("cloakroom-sidecar");
    let address = watched.health.trim_start_matches("http://");
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(&binary);
        let output = command.arg("log-level").args(arguments).env("CLOAKROOM_ADMIN_LISTEN", address).output()?;
        anyhow::Ok((output.status.success(), String::from_utf8(output.stdout)?))
    };
    assert_eq!(run(&[])?, (true, "info\n".to_owned()));
    assert_eq!(run(&["debug"])?, (true, "debug\n".to_owned()));
    let passed = watched.local.http.get(watched.local.app("/open/x")).send().await?;
    assert_eq!(watched.line_about(&decision(&passed)?).await?["message"], "passed");
    assert_eq!(run(&[])?, (true, "debug\n".to_owned()));
    assert!(!run(&["loud"])?.0);
    Ok(())
}
