//! Pages that change how somebody signs in want a sign-in of a few minutes ago, with the second factor where there is one.

use axum::response::Response;

use crate::app::App;
use crate::assurance::{Demand, Missing, Proof};
use crate::endpoint::pages::browser::Browser;
use crate::endpoint::pages::error::PageError;
use crate::endpoint::pages::{flows, second_factor, sign_in};
use crate::messages::say;
use crate::record::factors::{self, Factors};
use crate::record::flow::{Goal, Settings};
use crate::record::session::Session;
use crate::record::user::{self, User};

pub(super) struct Recent {
    pub(super) browser: Browser,
    pub(super) session: Session,
    pub(super) user: User,
    pub(super) factors: Factors,
}

/// Who is at the page, or the way to prove it.
pub(super) async fn recently(
    app: &App,
    browser: Browser,
    page: Settings,
) -> Result<Result<Recent, Box<Response>>, PageError> {
    let goal = Goal::Settings(page);
    let Some(session) = browser.session(app).await? else {
        return Ok(Err(Box::new(sign_in::begin(app, browser, goal).await?)));
    };
    let user = user::load(app.store(), &session.facts.sub).await?.filter(|user| !user.details.disabled);
    let user = user.ok_or(PageError::Forbidden(say::sorry_not_active()))?;
    let factors = factors::load(app.store(), &user.id).await?;
    let demand = flows::demand(app, &goal, &user.details.profile.groups).await?;
    let demand = Demand { mfa: demand.mfa || factors.is_enrolled(), ..demand };
    let proof = Proof::from_amr(&session.facts.amr, session.facts.auth_time);
    match demand.missing(&proof, app.now()) {
        Missing::Nothing => Ok(Ok(Recent { browser, session, user, factors })),
        Missing::SecondFactor => Ok(Err(Box::new(second_factor::step_up(app, browser, goal, &session).await?))),
        Missing::Everything => Ok(Err(Box::new(sign_in::begin(app, browser, goal).await?))),
    }
}
