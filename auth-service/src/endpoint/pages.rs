//! Pages for people: rendered here, no script, nothing loaded from elsewhere.

pub mod account;
pub mod assets;
pub mod authenticator;
pub mod browser;
pub mod consent;
pub mod device;
pub mod elsewhere;
pub mod error;
pub mod flows;
pub mod link;
pub mod new_passkey;
pub mod new_password;
pub mod passkeys;
pub mod reset_password;
pub mod second_factor;
pub mod sign_in;
pub mod signed_in;
pub mod signed_out;

use std::sync::Arc;

use askama::Template;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use url::Url;

use crate::app::App;
use crate::messages::{Language, Said, Sentence};
use crate::record::flow::Goal;
use browser::Browser;
use error::PageError;

/// What every page shows.
pub struct Frame {
    pub brand: String,
    pub logo: bool,
    pub language: Arc<Language>,
}

impl Frame {
    /// In the language of the browser.
    pub fn of(app: &App, browser: &Browser) -> Self {
        Self::in_language(app, Arc::clone(browser.language()))
    }

    /// In the language that whoever sent the browser here asked for, if there is one.
    pub fn of_flow(app: &App, browser: &Browser, goal: &Goal) -> Self {
        match goal {
            Goal::Authorize(request) => Self::asked_for(app, browser, request.ui_locales.as_deref()),
            Goal::Account | Goal::Settings(_) | Goal::Device { .. } => Self::of(app, browser),
        }
    }

    /// `wanted`: the application's `ui_locales`.
    pub fn asked_for(app: &App, browser: &Browser, wanted: Option<&str>) -> Self {
        let asked = wanted.and_then(|wanted| app.messages.among(wanted));
        Self::in_language(app, asked.unwrap_or_else(|| Arc::clone(browser.language())))
    }

    pub fn in_language(app: &App, language: Arc<Language>) -> Self {
        Self { brand: app.config.theme.name.clone(), logo: app.look.logo.is_some(), language }
    }

    /// What templates say everything with.
    pub fn t(&self, sentence: impl AsRef<Sentence>) -> Said<'_> {
        self.language.say(sentence.as_ref())
    }
}

/// 303: whatever the method was, the next one is GET (RFC 9110 §15.4.4).
pub fn redirect(target: &str) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    match HeaderValue::from_str(target) {
        Ok(location) => {
            response.headers_mut().insert(header::LOCATION, location);
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        Err(_) => *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR,
    }
    response
}

/// Where a page's forms may end, after redirects: some browsers apply `form-action` to those too.
pub enum LeadsTo<'a> {
    Here,
    /// A policy's own pages.
    Origin(&'a str),
    /// A client's redirect URI, from where it may send the browser on to wherever it lives.
    Client(&'a str),
    /// Providers, by their issuers, from where they may send the browser on, too.
    Providers(&'a [&'a str]),
}

pub fn page(status: StatusCode, template: &impl Template, leads_to: &LeadsTo<'_>) -> Result<Response, PageError> {
    render(status, template, leads_to, "")
}

/// For the few pages that ask the browser for a passkey: our own script file runs there.
pub fn page_with_script(
    status: StatusCode,
    template: &impl Template,
    leads_to: &LeadsTo<'_>,
) -> Result<Response, PageError> {
    render(status, template, leads_to, " script-src 'self';")
}

/// Says when, where something was tried too often.
fn when_to_try_again(app: &App, mut response: Response) -> Response {
    if response.status() == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(header::RETRY_AFTER, app.config.limits.window_seconds.into());
    }
    response
}

fn render(
    status: StatusCode,
    template: &impl Template,
    leads_to: &LeadsTo<'_>,
    script: &str,
) -> Result<Response, PageError> {
    let html = template.render().map_err(|error| PageError::Internal(error.to_string()))?;
    let mut response = (status, html).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.append(header::VARY, HeaderValue::from_static("accept-language"));
    let policy = content_security_policy(leads_to, script);
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    Ok(response)
}

fn content_security_policy(leads_to: &LeadsTo<'_>, script: &str) -> String {
    let targets = match leads_to {
        LeadsTo::Here => String::new(),
        LeadsTo::Origin(uri) => form_target(uri).map(|target| format!(" {target}")).unwrap_or_default(),
        LeadsTo::Client(uri) => form_target(uri).map(|target| format!(" {target} https:")).unwrap_or_default(),
        LeadsTo::Providers(issuers) => {
            let targets: Vec<String> = issuers.iter().filter_map(|issuer| form_target(issuer)).collect();
            if targets.is_empty() { String::new() } else { format!(" {} https:", targets.join(" ")) }
        }
    };
    format!(
        "default-src 'none';{script} style-src 'self'; img-src 'self'; form-action 'self'{targets}; frame-ancestors 'none'; base-uri 'none'"
    )
}

/// An origin, or the scheme of a native application.
fn form_target(uri: &str) -> Option<String> {
    let url = Url::parse(uri).ok()?;
    let source = match url.scheme() {
        "http" | "https" => url.origin().ascii_serialization(),
        scheme => format!("{scheme}:"),
    };
    // What could end the directive is not put into it.
    source.bytes().all(|b| b.is_ascii_graphic() && b != b';' && b != b',').then_some(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_may_lead_to_where_the_flow_ends_and_nowhere_else() {
        let policy = |leads_to| content_security_policy(&leads_to, "");
        assert!(
            policy(LeadsTo::Origin("https://a.example:8443/cb?x;y"))
                .contains("form-action 'self' https://a.example:8443;")
        );
        assert!(policy(LeadsTo::Client("com.example.app:/cb")).contains("form-action 'self' com.example.app: https:;"));
        assert!(policy(LeadsTo::Here).contains("form-action 'self';"));
    }
}
