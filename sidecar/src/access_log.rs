//! One JSON line for every denial, for every request if asked to. No token, no query: neither belongs in a log.

use std::fmt::Display;
use std::io::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;

use crate::clock::{self, Rfc3339};
use crate::log::{Level, enabled};
use crate::metrics::Cut;

/// Lines are written together, a few times a second: a flood of denials must not become a flood of writes.
pub struct AccessLog {
    pending: Vec<u8>,
    sink: Box<dyn std::io::Write>,
}

/// Beyond this, lines are written at once.
const MAX_PENDING: usize = 32 << 10;

pub struct Entry<'e> {
    /// In the answer, too.
    pub decision_id: &'e str,
    pub method: &'e str,
    /// Canonical where there is one; never with a query.
    pub path: &'e str,
    /// As trusted proxies say it.
    pub client: IpAddr,
    /// Id of the session, grant or key, if there is an identity.
    pub session: Option<&'e str>,
    /// The rule that it matched, as the policy writes it.
    pub route: Option<&'e str>,
    /// What the client was answered; absent where that is not known.
    pub status: Option<u16>,
    /// google.rpc.Code, where the answer is in gRPC's words.
    pub grpc_status: Option<&'e str>,
    /// From the request's head to the answer's.
    pub took: Option<Duration>,
    pub event: Event<'e>,
}

#[derive(Clone, Copy)]
pub enum Event<'e> {
    /// The app answered.
    Passed,
    /// One of the sidecar's own paths did.
    Answered,
    SentToSignIn(&'e dyn Display),
    Denied(&'e dyn Display),
    /// Admitted, but the app did not answer, or what it asked for could not be done.
    Failed(&'e dyn Display),
    /// Shadow mode let pass what would have been denied.
    WouldDeny(&'e dyn Display),
    /// The answer ended before it was whole.
    Cut(Cut),
    /// The app's answer had the JWT in it.
    Leaked,
}

impl<'e> Event<'e> {
    fn level(self) -> Level {
        match self {
            // As every event stream ends some day.
            Self::Passed | Self::Answered | Self::Cut(Cut::ClientGone) => Level::Debug,
            _ => Level::Info,
        }
    }

    fn message(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Answered => "answered",
            Self::SentToSignIn(_) => "sent to sign in",
            Self::Denied(_) => "denied",
            Self::Failed(_) => "failed",
            Self::WouldDeny(_) => "would deny",
            Self::Cut(_) => "cut",
            Self::Leaked => "replaced the JWT in a response",
        }
    }

    fn reason(&'e self) -> Option<&'e dyn Display> {
        match self {
            Self::Cut(cut) => Some(cut),
            Self::Passed | Self::Answered | Self::Leaked => None,
            Self::SentToSignIn(reason) | Self::Denied(reason) | Self::Failed(reason) | Self::WouldDeny(reason) => {
                Some(*reason)
            }
        }
    }
}

/// Whether requests that pass are logged too.
pub fn logs_everything() -> bool {
    enabled(Level::Debug)
}

impl AccessLog {
    pub fn new(sink: Box<dyn std::io::Write>) -> Self {
        Self { pending: Vec::new(), sink }
    }

    pub fn write(&mut self, entry: &Entry<'_>) {
        if enabled(entry.event.level()) {
            self.add(entry);
        }
    }

    fn add(&mut self, entry: &Entry<'_>) {
        let line = Line {
            client: Text(&entry.client),
            decision_id: entry.decision_id,
            duration_ms: entry.took.map(milliseconds),
            grpc_status: entry.grpc_status,
            level: entry.event.level().as_str(),
            message: entry.event.message(),
            method: entry.method,
            path: entry.path,
            reason: entry.event.reason().map(Text),
            route: entry.route,
            session_id: entry.session,
            status: entry.status,
            time: Text(&Rfc3339(clock::unix_now())),
        };
        // Strings and numbers, written to memory.
        let _ = serde_json::to_writer(&mut self.pending, &line);
        self.pending.push(b'\n');
        if self.pending.len() > MAX_PENDING {
            self.flush();
        }
    }

    pub fn flush(&mut self) {
        if !self.pending.is_empty() {
            // Nobody is left to tell if the sink is gone.
            let _ = self.sink.write_all(&self.pending);
            self.pending.clear();
        }
    }
}

/// Written as it is: a flood of denials should not cost more than what it floods.
#[derive(Serialize)]
struct Line<'e> {
    client: Text<'e>,
    decision_id: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    grpc_status: Option<&'e str>,
    level: &'e str,
    message: &'e str,
    method: &'e str,
    path: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Text<'e>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    time: Text<'e>,
}

/// With three digits after the point.
fn milliseconds(took: Duration) -> f64 {
    f64::from(u32::try_from(took.as_micros()).unwrap_or(u32::MAX)) / 1000.0
}

struct Text<'e>(&'e dyn Display);

impl Serialize for Text<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self.0)
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn entry<'e>(path: &'e str, event: Event<'e>) -> Entry<'e> {
        Entry {
            decision_id: "d1",
            method: "GET",
            path,
            client: "10.0.0.1".parse().unwrap(),
            session: Some("id"),
            route: Some("/admin/**"),
            status: Some(403),
            grpc_status: None,
            took: Some(Duration::from_micros(1_234)),
            event,
        }
    }

    fn written(log: impl FnOnce(&mut AccessLog)) -> String {
        let sink = Sink::default();
        log(&mut AccessLog::new(Box::new(sink.clone())));
        String::from_utf8(sink.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_denial_is_one_line_whatever_the_path_holds() {
        let written = written(|log| log.add(&entry("/\"\n{", Event::Denied(&"a rule denies this"))));
        assert_eq!(written.matches('\n').count(), 1);
        let line: serde_json::Value = serde_json::from_str(&written).unwrap();
        for (name, value) in [
            ("message", "denied".into()),
            ("level", "info".into()),
            ("reason", "a rule denies this".into()),
            ("route", "/admin/**".into()),
            ("status", serde_json::json!(403)),
            ("duration_ms", serde_json::json!(1.234)),
            ("client", "10.0.0.1".into()),
        ] {
            assert_eq!(line[name], value, "{written}");
        }
        assert!(line.get("grpc_status").is_none(), "{written}");
    }

    #[test]
    fn a_line_below_the_level_is_not_written() {
        // Unit tests run at `error`.
        assert_eq!(written(|log| log.write(&entry("/", Event::Denied(&"no")))), "");
    }
}
