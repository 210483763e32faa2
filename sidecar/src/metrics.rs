//! What is counted, and how Prometheus reads it (text exposition format 0.0.4).

mod histogram;

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use cloakroom_protocol::sidecar_config::{Match, Rule};

pub use histogram::Histogram;

/// One per process, shared by every worker.
#[derive(Default)]
pub struct Metrics {
    /// Requests by what became of them.
    pub requests: ByLabel<Outcome, { Outcome::ALL.len() }>,
    /// Requests that Shadow mode let pass and Enforce would not have.
    pub shadow_denials: Counter,
    /// Responses in which the app's JWT was found and replaced.
    pub jwt_leaks: Counter,
    /// Answers that ended before they were whole.
    pub answers_cut: ByLabel<Cut, { Cut::ALL.len() }>,
    pub connections: Gauge,
    /// Closed as soon as they came: as many are open as there is room for.
    pub connections_refused: Counter,
    /// Errors of clients in HTTP/2 itself, which end a stream or the connection.
    pub http2_errors: ByLabel<Http2Error, { Http2Error::ALL.len() }>,
    pub tls_handshakes: ByLabel<Handshake, { Handshake::ALL.len() }>,
    pub tls_loads: Counter,
    pub tls_refusals: Counter,
    /// Unix seconds; 0: there is no certificate.
    pub tls_not_after: Gauge,
    /// Open WebSockets and other upgraded connections.
    pub upgraded: Gauge,
    pub introspections: ByLabel<Answer, { Answer::ALL.len() }>,
    pub introspection_seconds: Histogram,
    /// Answers that a revocation or change overtook, and that were asked for again.
    pub overtaken: Counter,
    pub cache_entries: Gauge,
    pub cache_bytes: Gauge,
    pub cache_evictions: Counter,
    pub events: ByLabel<EventKind, { EventKind::ALL.len() }>,
    /// 1 while the event stream is open.
    pub stream_open: Gauge,
    /// 1 while only events about what is held here are sent.
    pub stream_narrowed: Gauge,
    /// 1 while cached answers hold without being asked for again.
    pub lease_live: Gauge,
    /// How much longer they do if no heartbeat comes, milliseconds.
    pub lease_left: Gauge,
    /// By how much the last heartbeat was later than the fastest of its stream, milliseconds.
    pub stream_lag: Gauge,
    pub connects: Counter,
    pub connect_failures: Counter,
    pub config_loads: Counter,
    pub config_refusals: Counter,
    pub sign_ins_started: Counter,
    pub sign_ins_completed: Counter,
    pub sign_ins_failed: Counter,
    pub sign_outs: Counter,
}

impl Metrics {
    /// All of it, one sample a line.
    pub fn render(&self) -> String {
        let mut out = String::with_capacity(6 << 10);
        self.requests.write(&mut out, "cloakroom_requests_total", "Requests by what became of them.");
        self.answers_cut.write(&mut out, "cloakroom_answers_cut_total", "Answers that ended before they were whole.");
        self.http2_errors.write(&mut out, "cloakroom_http2_errors_total", "Errors of clients in HTTP/2 itself.");
        self.tls_handshakes.write(&mut out, "cloakroom_tls_handshakes_total", "Connections to ports that speak TLS.");
        self.introspections.write(&mut out, "cloakroom_introspections_total", "Answers of the auth service.");
        self.introspection_seconds.write(
            &mut out,
            "cloakroom_introspection_seconds",
            "How long the auth service took.",
        );
        self.events.write(&mut out, "cloakroom_events_total", "Events received from the auth service.");
        for (name, help, counter) in [
            ("cloakroom_shadow_denials_total", "Requests let pass that Enforce would refuse.", &self.shadow_denials),
            ("cloakroom_jwt_leaks_total", "Responses in which the JWT was replaced.", &self.jwt_leaks),
            ("cloakroom_connections_refused_total", "Connections closed for want of room.", &self.connections_refused),
            ("cloakroom_overtaken_total", "Answers overtaken by a revocation or change.", &self.overtaken),
            ("cloakroom_cache_evictions_total", "Answers dropped for want of room.", &self.cache_evictions),
            ("cloakroom_connects_total", "Connections to the auth service.", &self.connects),
            ("cloakroom_connect_failures_total", "Failed attempts to connect.", &self.connect_failures),
            ("cloakroom_config_loads_total", "Configs put in force.", &self.config_loads),
            ("cloakroom_config_refusals_total", "Configs refused.", &self.config_refusals),
            ("cloakroom_tls_loads_total", "Certificates put in force.", &self.tls_loads),
            ("cloakroom_tls_refusals_total", "Certificates refused.", &self.tls_refusals),
            ("cloakroom_sign_ins_started_total", "People sent to sign in.", &self.sign_ins_started),
            ("cloakroom_sign_ins_completed_total", "People who came back signed in.", &self.sign_ins_completed),
            ("cloakroom_sign_ins_failed_total", "Sign-ins that ended on an error page.", &self.sign_ins_failed),
            ("cloakroom_sign_outs_total", "Sessions ended here.", &self.sign_outs),
        ] {
            head(&mut out, name, help, "counter");
            sample(&mut out, name, counter.get());
        }
        for (name, help, gauge) in [
            ("cloakroom_connections", "Open connections of clients.", &self.connections),
            ("cloakroom_upgraded_connections", "Of these, WebSockets and other upgrades.", &self.upgraded),
            ("cloakroom_cache_entries", "Cached identities.", &self.cache_entries),
            ("cloakroom_cache_bytes", "What they hold, about.", &self.cache_bytes),
            ("cloakroom_event_stream_open", "1 while events arrive.", &self.stream_open),
            (
                "cloakroom_event_stream_narrowed",
                "1 while only what concerns this sidecar is sent.",
                &self.stream_narrowed,
            ),
            ("cloakroom_lease_live", "1 while cached answers hold.", &self.lease_live),
        ] {
            head(&mut out, name, help, "gauge");
            sample(&mut out, name, gauge.get());
        }
        for (name, help, gauge) in [
            ("cloakroom_lease_seconds", "For how long cached answers hold without a heartbeat.", &self.lease_left),
            ("cloakroom_event_stream_lag_seconds", "By how much the last heartbeat was late.", &self.stream_lag),
        ] {
            head(&mut out, name, help, "gauge");
            sample(&mut out, name, seconds(u64::try_from(gauge.get()).unwrap_or_default() * 1000));
        }
        let name = "cloakroom_tls_certificate_not_after_seconds";
        head(&mut out, name, "Unix time at which the certificate ends.", "gauge");
        if self.tls_not_after.get() > 0 {
            sample(&mut out, name, self.tls_not_after.get());
        }
        out
    }
}

/// One rule's requests.
pub struct Route {
    /// What the rule matches, as the policy says it; never anything of a request.
    pub label: String,
    pub requests: ByLabel<Outcome, { Outcome::ALL.len() }>,
    /// From the request's head to the answer's, whoever gives it.
    pub seconds: Histogram,
}

/// One for each rule, and one for what no rule is about.
pub fn routes(rules: &[Rule]) -> Vec<Arc<Route>> {
    let mut labels: Vec<String> = Vec::new();
    for label in rules.iter().map(|rule| route_label(&rule.matches)).chain(["no rule".to_owned()]) {
        let same = labels.iter().filter(|other| **other == label || other.starts_with(&format!("{label} #"))).count();
        labels.push(if same == 0 { label } else { format!("{label} #{}", same + 1) });
    }
    labels
        .into_iter()
        .map(|label| Arc::new(Route { label, requests: ByLabel::default(), seconds: Histogram::default() }))
        .collect()
}

/// `GET,HEAD /admin/** | /orders/{id}`
fn route_label(matches: &[Match]) -> String {
    let one = |wanted: &Match| {
        let path = wanted.path.as_ref().map(ToString::to_string);
        let parts = [(!wanted.methods.is_empty()).then(|| wanted.methods.join(",")), path];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
    };
    let mut label = matches.iter().map(one).collect::<Vec<_>>().join(" | ");
    if let Some((end, _)) = label.char_indices().nth(MOST_OF_A_LABEL) {
        label.truncate(end);
        label.push('…');
    }
    label
}

const MOST_OF_A_LABEL: usize = 120;

/// What was counted by rule; what never happened is left out.
pub fn render_routes(routes: &[Arc<Route>], out: &mut String) {
    let name = "cloakroom_route_requests_total";
    head(out, name, "Requests by the rule they matched and what became of them.", "counter");
    for route in routes {
        let label = escaped(&route.label);
        for (outcome, text) in Outcome::values() {
            let count = route.requests.of(*outcome).get();
            if count > 0 {
                let _ = writeln!(out, "{name}{{route=\"{label}\",outcome=\"{text}\"}} {count}");
            }
        }
    }
    let name = "cloakroom_request_seconds";
    head(out, name, "From a request's head to its answer's, by the rule that it matched.", "histogram");
    for route in routes.iter().filter(|route| !route.seconds.is_empty()) {
        route.seconds.write_samples(out, name, &format!("route=\"{}\"", escaped(&route.label)));
    }
}

/// As a label's value.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Passed on with an identity.
    Authenticated,
    /// Passed on without.
    Anonymous,
    /// One of the sidecar's own paths.
    OwnPath,
    SentToSignIn,
    /// 401
    Unauthenticated,
    /// 403
    Forbidden,
    /// Malformed or too large: other 4xx of ours.
    Refused,
    /// 503: neither auth service nor outage contract.
    Unavailable,
    /// The app did not answer, or not in HTTP.
    UpstreamFailed,
}

/// Why an answer ended before it was whole, or a tunnel before its ends had finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    AppClosed,
    AppMalformed,
    TimedOut,
    SessionEnded,
    Unheard,
    ClientGone,
    ClientStalled,
    RequestBroken,
}

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::AppClosed => "the app's connection ended inside its answer",
            Self::AppMalformed => "the app's answer is malformed",
            Self::TimedOut => "nothing came for too long",
            Self::SessionEnded => "the session has ended",
            Self::Unheard => "nobody can tell any more whether the session has ended",
            Self::ClientGone => "the client went away",
            Self::ClientStalled => "the client took nothing for too long",
            Self::RequestBroken => "the rest of the request is malformed, too large or did not come",
        })
    }
}

/// What a client was told that it did wrong in HTTP/2 (RFC 9113 §7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http2Error {
    /// What is malformed, or not to be said there.
    Protocol,
    FlowControl,
    StreamClosed,
    FrameSize,
    /// More streams than are allowed.
    RefusedStream,
    Compression,
    /// A flood.
    EnhanceYourCalm,
    Other,
}

impl std::fmt::Display for Http2Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(Self::ALL[self.index()].1)
    }
}

/// What became of a connection to a port that speaks TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    Done,
    /// No version or cipher in common, or no TLS.
    Failed,
    TimedOut,
    /// Told to use https.
    PlainHttp,
    /// Closed: there is nothing to present.
    NoCertificate,
    NoRoom,
}

/// What an introspection came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Active,
    Inactive,
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    Revoked,
    Updated,
    Keys,
    Heartbeat,
    Reset,
    Broken,
}

/// An enum whose every value is one time series.
pub trait Label: Copy + 'static {
    const NAME: &'static str;
    fn index(self) -> usize;
    fn values() -> &'static [(Self, &'static str)];
}

macro_rules! label {
    ($type:ident, $name:literal, $($value:ident => $text:literal),+ $(,)?) => {
        impl $type {
            const ALL: &'static [(Self, &'static str)] = &[$((Self::$value, $text)),+];
        }
        impl Label for $type {
            const NAME: &'static str = $name;
            fn index(self) -> usize {
                self as usize
            }
            fn values() -> &'static [(Self, &'static str)] {
                Self::ALL
            }
        }
    };
}

label!(Outcome, "outcome",
    Authenticated => "authenticated", Anonymous => "anonymous", OwnPath => "own_path", SentToSignIn => "sent_to_sign_in",
    Unauthenticated => "unauthenticated", Forbidden => "forbidden", Refused => "refused", Unavailable => "unavailable",
    UpstreamFailed => "upstream_failed");
label!(Cut, "reason",
    AppClosed => "app_closed", AppMalformed => "app_malformed", TimedOut => "timed_out", SessionEnded => "session_ended",
    Unheard => "unheard", ClientGone => "client_gone", ClientStalled => "client_stalled", RequestBroken => "request_broken");
label!(Http2Error, "reason",
    Protocol => "protocol_error", FlowControl => "flow_control_error", StreamClosed => "stream_closed",
    FrameSize => "frame_size_error", RefusedStream => "refused_stream", Compression => "compression_error",
    EnhanceYourCalm => "enhance_your_calm", Other => "other");
label!(Handshake, "outcome",
    Done => "done", Failed => "failed", TimedOut => "timed_out", PlainHttp => "plain_http",
    NoCertificate => "no_certificate", NoRoom => "no_room");
label!(Answer, "answer", Active => "active", Inactive => "inactive", Failed => "failed");
label!(EventKind, "event",
    Revoked => "revoked", Updated => "updated", Keys => "keys", Heartbeat => "heartbeat", Reset => "reset",
    Broken => "broken");

#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn inc(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Counted elsewhere.
    pub fn set(&self, count: u64) {
        self.0.store(count, Ordering::Relaxed);
    }
}

#[derive(Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    pub fn inc(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub fn dec(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    pub fn set(&self, value: usize) {
        self.0.store(i64::try_from(value).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

pub struct ByLabel<L, const N: usize>([Counter; N], std::marker::PhantomData<L>);

impl<L: Label, const N: usize> Default for ByLabel<L, N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()), std::marker::PhantomData)
    }
}

impl<L: Label, const N: usize> ByLabel<L, N> {
    pub fn of(&self, label: L) -> &Counter {
        &self.0[label.index()]
    }

    fn write(&self, out: &mut String, name: &str, help: &str) {
        head(out, name, help, "counter");
        for (label, text) in L::values() {
            let _ = writeln!(out, "{name}{{{}=\"{text}\"}} {}", L::NAME, self.of(*label).get());
        }
    }
}

fn seconds(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn head(out: &mut String, name: &str, help: &str, kind: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn sample(out: &mut String, name: &str, value: impl std::fmt::Display) {
    let _ = writeln!(out, "{name} {value}");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_label_counts_for_itself() {
        for (at, (outcome, _)) in Outcome::ALL.iter().enumerate() {
            assert_eq!(outcome.index(), at);
        }
        let metrics = Metrics::default();
        metrics.requests.of(Outcome::UpstreamFailed).inc();
        let text = metrics.render();
        assert!(text.contains("cloakroom_requests_total{outcome=\"upstream_failed\"} 1\n"), "{text}");
        assert!(text.contains("cloakroom_requests_total{outcome=\"authenticated\"} 0\n"));
    }

    fn rule(matches: &[(&str, &[&str])]) -> Rule {
        let matches = matches.iter().map(|(path, methods)| {
            let path = (!path.is_empty()).then(|| path.parse().unwrap());
            Match { path, methods: methods.iter().map(ToString::to_string).collect() }
        });
        let (access, require) = Default::default();
        Rule { matches: matches.collect(), access, require, unauthenticated: None, outage: None }
    }

    #[test]
    fn routes_are_named_by_their_rules_and_no_two_alike() {
        let rules = [
            rule(&[("/admin/**", &["GET", "HEAD"]), ("/orders/{id}", &[])]),
            rule(&[("", &["TRACE"])]),
            rule(&[("/a", &[])]),
            rule(&[("/a", &[])]),
            rule(&[("/a", &[])]),
        ];
        let routes = routes(&rules);
        let labels: Vec<&str> = routes.iter().map(|route| route.label.as_str()).collect();
        assert_eq!(labels, ["GET,HEAD /admin/** | /orders/{id}", "TRACE", "/a", "/a #2", "/a #3", "no rule"]);
        routes[0].requests.of(Outcome::Forbidden).inc();
        let mut text = String::new();
        render_routes(&routes, &mut text);
        let sample =
            "cloakroom_route_requests_total{route=\"GET,HEAD /admin/** | /orders/{id}\",outcome=\"forbidden\"} 1\n";
        assert!(text.contains(sample) && text.matches('\n').count() == 5, "{text}");
    }

    #[test]
    fn a_route_that_was_asked_for_has_its_latencies() {
        let routes = routes(&[rule(&[("/a\"b", &[])])]);
        routes[0].seconds.observe(Duration::from_millis(3));
        let mut text = String::new();
        render_routes(&routes, &mut text);
        for line in [
            "cloakroom_request_seconds_bucket{route=\"/a\\\"b\",le=\"0.001953125\"} 0\n",
            "cloakroom_request_seconds_bucket{route=\"/a\\\"b\",le=\"0.00390625\"} 1\n",
            "cloakroom_request_seconds_bucket{route=\"/a\\\"b\",le=\"+Inf\"} 1\n",
            "cloakroom_request_seconds_sum{route=\"/a\\\"b\"} 0.003\n",
            "cloakroom_request_seconds_count{route=\"/a\\\"b\"} 1\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
        assert!(!text.contains("no rule"), "nothing was asked for there: {text}");
    }

    /// docs/metrics.md explains every one of them.
    #[test]
    fn every_metric_is_documented() {
        let mut text = Metrics::default().render();
        render_routes(&[], &mut text);
        let page = include_str!("../../docs/metrics.md");
        for name in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()) {
            assert!(page.contains(&format!("`{name}`")), "{name} is not in docs/metrics.md");
        }
    }
}
