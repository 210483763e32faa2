//! One JSON line for every denial, for every request if asked to. No token, no query: neither belongs in a log.

use std::fmt::Display;
use std::io::Write as _;

use serde::Serialize;

use crate::clock::{self, Rfc3339};
use crate::log::{Level, enabled};

/// Lines are written together, a few times a second: a flood of denials must not become a flood of writes.
pub struct AccessLog {
    pending: Vec<u8>,
    sink: Box<dyn std::io::Write>,
}

/// Beyond this, lines are written at once.
const MAX_PENDING: usize = 32 << 10;

pub struct Entry<'e> {
    pub decision_id: &'e str,
    pub method: &'e str,
    /// Canonical where there is one; never with a query.
    pub path: &'e str,
    pub client: &'e dyn Display,
    /// Id of the session, grant or key, if there is an identity.
    pub session: Option<&'e str>,
    pub outcome: Outcome<'e>,
}

pub enum Outcome<'e> {
    Passed,
    /// With the status that the client got.
    Denied(&'e dyn Display, u16),
    /// Shadow mode let pass what would have been denied.
    WouldDeny(&'e dyn Display),
    /// The app's answer had the JWT in it.
    Leaked,
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
        let (message, reason, status): (_, Option<&dyn Display>, _) = match &entry.outcome {
            Outcome::Passed => ("passed", None, None),
            Outcome::Denied(reason, status) => ("denied", Some(*reason), Some(*status)),
            Outcome::WouldDeny(reason) => ("would deny", Some(*reason), None),
            Outcome::Leaked => ("replaced the JWT in a response", None, None),
        };
        let line = Line {
            client: Text(entry.client),
            decision_id: entry.decision_id,
            level: if matches!(entry.outcome, Outcome::Passed) { "debug" } else { "info" },
            message,
            method: entry.method,
            path: entry.path,
            reason: reason.map(Text),
            session_id: entry.session,
            status,
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
    level: &'e str,
    message: &'e str,
    method: &'e str,
    path: &'e str,
    reason: Option<Text<'e>>,
    session_id: Option<&'e str>,
    status: Option<u16>,
    time: Text<'e>,
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

    #[test]
    fn a_denial_is_one_line_whatever_the_path_holds() {
        let sink = Sink::default();
        let mut log = AccessLog::new(Box::new(sink.clone()));
        let entry = Entry {
            decision_id: "d1",
            method: "GET",
            path: "/\"\n{",
            client: &"10.0.0.1",
            session: Some("id"),
            outcome: Outcome::Denied(&"a rule denies this", 403),
        };
        log.write(&entry);
        drop(log);
        let written = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        assert_eq!(written.matches('\n').count(), 1);
        let line: serde_json::Value = serde_json::from_str(&written).unwrap();
        assert_eq!((&line["reason"], &line["status"]), (&"a rule denies this".into(), &403.into()));
    }
}
