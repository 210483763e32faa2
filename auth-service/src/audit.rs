//! The audit trail: one line for every security event, never with a secret in it.
//!
//! Lines go to the log with target `audit`; with the JSON log format each is one JSON object.

use std::fmt::Display;

/// `event`: what happened; `actor`: who did it; `subject`: to whom; the rest is detail.
pub fn record(event: &'static str, actor: impl Display, subject: impl Display, detail: impl Display) {
    tracing::info!(target: "audit", event, actor = %actor, subject = %subject, detail = %detail, "audit");
}
