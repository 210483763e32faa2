//! Where a browser may be sent for a client: to what is registered for it; for a namespace's client, not to another namespace's app. That was
//! judged when it was registered, but origins come and go with policies.

use crate::app::App;
use crate::record::client::Client;

pub fn may_redirect_to(app: &App, client: &Client, uri: &str) -> bool {
    client.may_redirect_to(uri) && !is_anothers(app, client, uri)
}

/// The same after signing out.
pub fn may_leave_to(app: &App, client: &Client, uri: &str) -> bool {
    client.may_leave_to(uri) && !is_anothers(app, client, uri)
}

fn is_anothers(app: &App, client: &Client, uri: &str) -> bool {
    client.of.as_ref().is_some_and(|of| app.registry.stranger_at(uri, of.resource.namespace()).is_some())
}
