//! `cloakroom sessions`: who is signed in, and ending it.

use anyhow::Result;
use cloakroom_protocol::revocation::Receipt;
use cloakroom_protocol::token::TokenId;
use serde::Deserialize;

use crate::admin_api::{AdminApi, Connection};
use crate::users::{self, List};

#[derive(clap::Args)]
pub(crate) struct Sessions {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// List the sessions of a user
    List { username: String },
    /// End a session, or with --everywhere all of a user's
    Revoke {
        /// Id of a session, grant or API key; with --everywhere a user's name
        id: String,
        /// End every session and grant of the user
        #[arg(long)]
        everywhere: bool,
        /// Wait so many milliseconds until every sidecar has confirmed that it refuses the session
        #[arg(long, value_name = "MS", num_args = 0..=1, default_missing_value = "5000")]
        wait: Option<u64>,
    },
}

#[derive(Deserialize)]
struct Session {
    id: TokenId,
    clients: Vec<String>,
    address: String,
    user_agent: String,
}

impl Sessions {
    pub(crate) async fn run(self) -> Result<()> {
        let api = self.connection.open()?;
        match self.command {
            Command::List { username } => list(&api, &username).await,
            Command::Revoke { id, everywhere, wait } => {
                let path = if everywhere {
                    format!("/admin/v1/users/{}/sessions", users::find(&api, &id).await?.id)
                } else {
                    format!("/admin/v1/sessions/{}", id.parse::<TokenId>()?)
                };
                say(&api.delete(&path, wait).await?, wait.is_some());
                Ok(())
            }
        }
    }
}

async fn list(api: &AdminApi, username: &str) -> Result<()> {
    let user = users::find(api, username).await?;
    let sessions: List<Session> = api.get(&format!("/admin/v1/users/{}/sessions", user.id), &[]).await?;
    say!("{:<24} {:<24} {:<40} BROWSER", "ID", "APPS", "ADDRESS");
    for session in sessions.items {
        say!("{} {:<24} {:<40} {}", session.id, session.clients.join(","), session.address, session.user_agent);
    }
    Ok(())
}

fn say(receipt: &Receipt, waited: bool) {
    let Receipt { connected, acknowledged, lost_lease, event_id, .. } = receipt;
    if event_id.is_none() {
        say!("there was nothing to revoke");
    } else if waited {
        say!("revoked; of {connected} sidecars {acknowledged} have confirmed and {lost_lease} lost their lease");
        let open = connected.saturating_sub(acknowledged + lost_lease);
        if open > 0 {
            say!("{open} have not answered yet: they refuse it within their lease of five seconds at the latest");
        }
    } else {
        say!("revoked");
    }
}
