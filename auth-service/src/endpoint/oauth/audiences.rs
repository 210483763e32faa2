//! What a token is to be for: `resource` (RFC 8707) and `audience`, among what the client may have; all of that, if it names neither.
//!
//! A resource is an audience by name, or the address of a protected app, as its metadata (RFC 9728) tells a client that knows nothing else.

use crate::app::App;
use crate::form::Parameters;
use crate::record::client::Client;

/// `None`: something was asked for that the client may not have.
pub fn audiences(app: &App, client: &Client, form: &Parameters) -> Option<Vec<String>> {
    let mut asked = form.list("resource");
    asked.extend(form.list("audience"));
    if asked.is_empty() {
        return Some(client.audiences.clone());
    }
    let mut given: Vec<String> = Vec::new();
    for one in asked {
        let meant = if client.audiences.contains(&one) { vec![one] } else { app.registry.audiences_at(&one) };
        let allowed: Vec<String> = meant.into_iter().filter(|audience| client.audiences.contains(audience)).collect();
        if allowed.is_empty() {
            return None;
        }
        for audience in allowed {
            if !given.contains(&audience) {
                given.push(audience);
            }
        }
    }
    Some(given)
}
