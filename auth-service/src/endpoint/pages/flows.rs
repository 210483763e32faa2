//! Sign-ins under way, as their pages find them again.

use cloakroom_protocol::token::TokenId;
use serde::Deserialize;

use super::LeadsTo;
use super::browser::Browser;
use super::error::PageError;
use crate::app::App;
use crate::assurance::{Demand, demands_mfa};
use crate::endpoint::oauth::authorize::display_name;
use crate::form::Parameters;
use crate::messages::say;
use crate::record::client;
use crate::record::flow::{self, AuthorizationRequest, Away, Entered, Flow, Goal, Stage};
use crate::record::reset::{Purpose, Ticket};

/// Which flow an address goes on with. Without one there is none: a page says so.
#[derive(Deserialize)]
pub struct FlowParameter {
    #[serde(default)]
    pub flow: String,
}

/// Remembers a flow for this browser; returns its id.
pub async fn start(app: &App, browser: &Browser, goal: Goal, stage: Stage) -> Result<String, PageError> {
    let id = app.random.secret();
    let flow = Flow { goal, browser: browser.hash(), started: app.now(), stage };
    flow::create(app.store(), &id, &flow).await?;
    Ok(id)
}

/// Which flow a form goes on with; what its token was made for.
pub fn of_form(form: &Parameters) -> String {
    form.get("flow").unwrap_or_default().to_owned()
}

/// The flow, if it is this browser's.
async fn load(app: &App, browser: &Browser, id: &str) -> Result<Flow, PageError> {
    let flow = flow::load(app.store(), id).await?.filter(|flow| flow.browser.matches(&browser.hash()));
    flow.ok_or_else(over)
}

fn over() -> PageError {
    PageError::BadRequest(say::sorry_flow_over())
}

pub async fn at_sign_in(app: &App, browser: &Browser, id: &str) -> Result<Goal, PageError> {
    let flow = load(app, browser, id).await?;
    if matches!(flow.stage, Stage::SignIn) { Ok(flow.goal) } else { Err(over()) }
}

pub async fn at_second_factor(app: &App, browser: &Browser, id: &str) -> Result<(Goal, Entered), PageError> {
    match load(app, browser, id).await? {
        Flow { goal, stage: Stage::SecondFactor(entered), .. } => Ok((goal, *entered)),
        _ => Err(over()),
    }
}

pub async fn at_consent(app: &App, browser: &Browser, id: &str) -> Result<AuthorizationRequest, PageError> {
    match load(app, browser, id).await? {
        Flow { goal: Goal::Authorize(request), stage: Stage::Consent, .. } => Ok(*request),
        _ => Err(over()),
    }
}

pub async fn at_link(app: &App, browser: &Browser, id: &str, purpose: Purpose) -> Result<Ticket, PageError> {
    match load(app, browser, id).await? {
        Flow { stage: Stage::Reset(ticket), .. } if ticket.purpose == purpose => Ok(ticket),
        _ => Err(over()),
    }
}

/// A flow that went to another provider.
pub struct Left {
    pub goal: Goal,
    pub away: Away,
    /// Unix seconds.
    pub started: u64,
}

pub async fn away(app: &App, browser: &Browser, id: &str) -> Result<Left, PageError> {
    match load(app, browser, id).await? {
        Flow { goal, stage: Stage::Away(away), started, .. } => Ok(Left { goal, away, started }),
        _ => Err(over()),
    }
}

pub async fn at_new_passkey(app: &App, browser: &Browser, id: &str) -> Result<(), PageError> {
    let flow = load(app, browser, id).await?;
    if matches!(flow.stage, Stage::NewPasskey) { Ok(()) } else { Err(over()) }
}

pub async fn at_end(app: &App, browser: &Browser, id: &str) -> Result<(Goal, TokenId), PageError> {
    match load(app, browser, id).await? {
        Flow { goal, stage: Stage::SignedIn(sid), .. } => Ok((goal, sid)),
        _ => Err(over()),
    }
}

/// Each page's form works once.
pub async fn finish(app: &App, id: &str) -> Result<(), PageError> {
    if flow::finish(app.store(), id).await? { Ok(()) } else { Err(over()) }
}

/// What a goal asks of the sign-in of somebody in these groups.
pub async fn demand(app: &App, goal: &Goal, groups: &[String]) -> Result<Demand, PageError> {
    let mfa = by_group(app, groups);
    match goal {
        Goal::Authorize(request) => demand_of(app, request, groups).await,
        Goal::Account | Goal::Device { .. } => Ok(Demand { mfa, ..Demand::default() }),
        Goal::Settings(_) => Ok(Demand { mfa, max_age: Some(app.config.factors.recent_seconds), anew: false }),
    }
}

/// What a client asks, what was set for it, and what was set for the person's groups.
pub async fn demand_of(app: &App, request: &AuthorizationRequest, groups: &[String]) -> Result<Demand, PageError> {
    let mfa = by_group(app, groups) || demands_mfa(request.acr_values.as_deref()) || by_client(app, request).await?;
    Ok(Demand { mfa, max_age: request.max_age, anew: request.prompt.login })
}

fn by_group(app: &App, groups: &[String]) -> bool {
    groups.iter().any(|group| app.config.factors.required_groups.contains(group))
}

async fn by_client(app: &App, request: &AuthorizationRequest) -> Result<bool, PageError> {
    if request.for_policy {
        return Ok(false);
    }
    let client = client::load(app.store(), &request.client_id).await?;
    let client = client.ok_or_else(|| PageError::BadRequest(say::sorry_application_gone()))?;
    Ok(client.require_mfa)
}

/// Where a flow's page leads: what to call it, and where its form may end.
pub struct Destination<'a> {
    pub application: Option<String>,
    pub leads_to: LeadsTo<'a>,
}

pub async fn destination<'a>(app: &App, goal: &'a Goal) -> Result<Destination<'a>, PageError> {
    let Goal::Authorize(request) = goal else {
        return Ok(Destination { application: None, leads_to: LeadsTo::Here });
    };
    let uri = request.redirect_uri.as_str();
    let leads_to = if request.for_policy { LeadsTo::Origin(uri) } else { LeadsTo::Client(uri) };
    Ok(Destination { application: Some(display_name(app, request).await?), leads_to })
}
