//! `/` of port 15020, for whoever wonders what this sidecar is doing.

use std::fmt::Write as _;

use cloakroom_protocol::sidecar_config::Mode;
use http::StatusCode;

use super::Admin;
use crate::local_response::LocalResponse;
use crate::log;
use crate::pages::{self, escape};

const LINKS: &str =
    "<p><a href=\"/metrics\">metrics</a> · <a href=\"/ready\">ready</a> · <a href=\"/jwks.json\">keys</a></p>";

pub fn page(admin: &Admin) -> LocalResponse {
    let policy = admin.policy.load();
    let status = admin.client.status();
    let (name, revision) = policy.as_ref().map_or_else(
        || ("none: everything is denied".to_owned(), "–".to_owned()),
        |policy| (policy.policy.to_string(), policy.revision.clone()),
    );
    let mode = match policy.as_ref().map(|policy| policy.mode) {
        Some(Mode::Enforce) => "Enforce",
        Some(Mode::Shadow) => "Shadow: every request passes, whatever its rule says",
        None => "–",
    };
    let seconds = |millis: i64| format!("{}.{:03} s", millis / 1000, millis % 1000);
    let yes = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    let rows = [
        ("Policy", name),
        ("Mode", mode.to_owned()),
        ("Config revision in force", revision),
        ("Newer config refused", admin.refused.load().as_ref().map_or_else(|| "no".to_owned(), ToString::to_string)),
        ("TLS certificate", certificate(admin)),
        (
            "Auth service",
            status.trouble.map_or_else(|| status.connection.to_owned(), |why| format!("{}: {why}", status.connection)),
        ),
        ("Event stream open", yes(status.stream_open)),
        ("Events received", if status.narrowed { "about what is held here" } else { "all" }.to_owned()),
        ("Last event", status.last_event.unwrap_or_else(|| "–".to_owned())),
        ("Last heartbeat late by", seconds(admin.metrics.stream_lag.get())),
        ("Cached answers hold without asking again", yes(status.lease_live)),
        ("And go on to without a heartbeat for", seconds(admin.metrics.lease_left.get())),
        ("Cached answers", format!("{}, about {} KiB", status.entries, status.bytes >> 10)),
        ("Log level", log::level().to_string()),
        ("Pod", admin.pod_uid.clone()),
        ("Version", env!("CARGO_PKG_VERSION").to_owned()),
    ];
    let mut html = String::from("<table>");
    for (name, value) in rows {
        let _ = write!(html, "<tr><th scope=\"row\">{name}</th><td>{}</td></tr>", escape(&value));
    }
    html.push_str("</table>");
    html.push_str(LINKS);
    pages::page(StatusCode::OK, "Cloakroom sidecar", &html)
}

fn certificate(admin: &Admin) -> String {
    let Some(certificates) = &admin.certificates else {
        return "none: the protected ports speak plain HTTP".to_owned();
    };
    let current = match certificates.current() {
        Some(pair) => format!("ends {}", pair.ends()),
        None => "none: connections are closed".to_owned(),
    };
    match certificates.refused() {
        Some(reason) => format!("{current}; a newer one is refused: {reason}"),
        None => current,
    }
}
