//! `cloakroom users`: people who may sign in.

use std::io::{BufRead, IsTerminal};

use anyhow::{Context, Result, bail};
use cloakroom_protocol::revocation::Receipt;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::admin_api::{AdminApi, Connection};

#[derive(clap::Args)]
pub(crate) struct Users {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Create a user; the password is asked for, or read from standard input
    Create {
        username: String,
        /// Full name
        #[arg(long)]
        name: Option<String>,
        #[arg(long)]
        email: Option<String>,
        /// May be given several times
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<String>,
        /// May be given several times
        #[arg(long = "group", value_name = "GROUP")]
        groups: Vec<String>,
        /// Scopes of the person's sessions; may be given several times
        #[arg(long = "scope", value_name = "SCOPE")]
        scopes: Vec<String>,
        /// Ask for no password: the user comes in by `add-passkey`, or from another provider
        #[arg(long)]
        no_password: bool,
    },
    /// List users
    List,
    /// Delete a user and end all their sessions
    Delete { username: String },
    /// Set a new password, asked for or read from standard input; ends all the user's sessions
    SetPassword { username: String },
    /// Make a link by which the user sets a new password, once; the old one goes on until then
    ResetPassword { username: String },
    /// Make a link by which the user adds a passkey, once, and needs no password any more
    AddPasskey { username: String },
    /// Take a user's second factors away, who has lost them; ends all the user's sessions
    ResetFactors { username: String },
}

#[derive(Deserialize)]
pub(crate) struct Link {
    pub(crate) url: String,
    /// Seconds.
    expires_in: u64,
}

#[derive(Deserialize)]
pub(crate) struct User {
    pub(crate) id: String,
    username: String,
    email: Option<String>,
    #[serde(default)]
    roles: Vec<String>,
    disabled: bool,
}

#[derive(Deserialize)]
pub(crate) struct List<T> {
    pub(crate) items: Vec<T>,
    next_offset: Option<usize>,
}

impl Users {
    pub(crate) async fn run(self) -> Result<()> {
        let api = self.connection.open()?;
        match self.command {
            Command::Create { username, name, email, roles, groups, scopes, no_password } => {
                let password = if no_password { None } else { Some(read_password(&username)?) };
                let user = json!({
                    "username": username, "password": password, "name": name, "email": email,
                    "roles": roles, "groups": groups, "scopes": scopes,
                });
                let created: User = api.send(Method::POST, "/admin/v1/users", &user).await?;
                say!("created {} ({})", created.username, created.id);
            }
            Command::List => list(&api).await?,
            Command::Delete { username } => {
                let user = find(&api, &username).await?;
                api.delete::<Receipt>(&format!("/admin/v1/users/{}", user.id), None).await?;
                say!("deleted {username}");
            }
            Command::SetPassword { username } => {
                let user = find(&api, &username).await?;
                set_password(&api, &user, &read_password(&username)?).await?;
                say!("set; {username} is signed out everywhere");
            }
            Command::ResetPassword { username } => {
                let user = find(&api, &username).await?;
                let path = format!("/admin/v1/users/{}/password-reset", user.id);
                let link: Link = api.send(Method::POST, &path, &json!({})).await?;
                say!("{}", link.url);
                complain!("good once, for {} minutes; whoever has it sets {username}'s password", link.expires_in / 60);
            }
            Command::AddPasskey { username } => {
                let user = find(&api, &username).await?;
                let link = passkey_link(&api, &user).await?;
                say!("{}", link.url);
                complain!("good once, for {} minutes; whoever has it signs in as {username}", link.expires_in / 60);
            }
            Command::ResetFactors { username } => {
                let user = find(&api, &username).await?;
                api.delete::<Value>(&format!("/admin/v1/users/{}/factors", user.id), None).await?;
                say!("{username} has only a password now, and is signed out everywhere");
            }
        }
        Ok(())
    }
}

/// The user of this name, or an error that says there is none.
pub(crate) async fn find(api: &AdminApi, username: &str) -> Result<User> {
    let found: List<User> = api.get("/admin/v1/users", &[("username", username)]).await?;
    found.items.into_iter().next().with_context(|| format!("there is no user {username:?}"))
}

pub(crate) async fn set_password(api: &AdminApi, user: &User, password: &str) -> Result<()> {
    let path = format!("/admin/v1/users/{}/password", user.id);
    api.send::<Value>(Method::PUT, &path, &json!({ "password": password })).await?;
    Ok(())
}

pub(crate) async fn passkey_link(api: &AdminApi, user: &User) -> Result<Link> {
    api.send(Method::POST, &format!("/admin/v1/users/{}/passkey-link", user.id), &json!({})).await
}

async fn list(api: &AdminApi) -> Result<()> {
    say!("{:<24} {:<32} {:<9} ROLES", "USERNAME", "EMAIL", "STATE");
    let mut offset = Some(0);
    while let Some(at) = offset {
        let page: List<User> = api.get("/admin/v1/users", &[("offset", &at.to_string())]).await?;
        for user in page.items {
            let state = if user.disabled { "disabled" } else { "active" };
            say!("{:<24} {:<32} {state:<9} {}", user.username, user.email.unwrap_or_default(), user.roles.join(","));
        }
        offset = page.next_offset;
    }
    Ok(())
}

/// From the terminal without showing it, otherwise the first line of standard input: arguments are for everyone to see.
fn read_password(username: &str) -> Result<String> {
    if std::io::stdin().is_terminal() {
        let password = rpassword::prompt_password(format!("Password for {username}: "))?;
        if rpassword::prompt_password("Once more: ")? != password {
            bail!("the passwords differ");
        }
        return Ok(password);
    }
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    let password = line.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        bail!("standard input holds no password");
    }
    Ok(password.to_owned())
}
