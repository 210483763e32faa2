//! Whatever fails becomes a response here and nowhere else. Details go to the log; a caller learns what to do, and an id to ask about.

use bytes::Bytes;
use cloakroom_protocol::sidecar_config::Unauthenticated;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::cleanse::Malformed;
use super::credential::CredentialError;
use super::decide::Refusal;
use super::hand_back::HandBackError;
use crate::authority::{CommitError, RESOURCE_METADATA_PATH, SignOutError, StepUp, Unavailable};
use crate::http1::reply_head::InvalidReply;
use crate::http1::unreadable::Unreadable;
use crate::local_response::LocalResponse;
use crate::metrics::Outcome;
use crate::pages;
use crate::upstream::UpstreamError;

/// What is passed on, said as `Allow` says it.
pub const PROXIED_METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// Any stage's error.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    Unreadable(#[from] Unreadable),
    #[error("{0}")]
    Malformed(#[from] Malformed),
    #[error("{0}")]
    Refused(#[from] Refusal),
    #[error("{0}")]
    Unavailable(#[from] Unavailable),
    #[error("no policy is in force yet")]
    NoPolicy,
    #[error("no memory is left for another request")]
    NoRoom,
    #[error("{0}")]
    Upstream(#[from] UpstreamError),
    #[error("{0}")]
    HandBack(#[from] HandBackError),
}

/// In which form a caller understands an answer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner {
    /// A person waits for a page.
    pub page: bool,
    pub grpc: bool,
    /// The token came in a header: who sends that reads the challenge, and has nothing of a sign-in.
    pub by_header: bool,
    pub unauthenticated: Option<Unauthenticated>,
}

pub const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// Whether, and to reach what, the caller is sent to sign in instead of being told no.
pub fn sign_in(failure: &Failure, manner: Manner) -> Option<StepUp> {
    let redirects = match manner.unauthenticated? {
        Unauthenticated::Auto => manner.page,
        Unauthenticated::Redirect => true,
        Unauthenticated::Deny => false,
    };
    if !redirects || manner.grpc || manner.by_header {
        return None;
    }
    match failure {
        Failure::Refused(
            Refusal::NoToken | Refusal::Inactive | Refusal::Ended | Refusal::Credential(CredentialError::Malformed(_)),
        ) => Some(StepUp::default()),
        Failure::Refused(Refusal::StepUp(step_up)) => Some(step_up.clone()),
        _ => None,
    }
}

/// The decision id's header is not among its own: every answer gets that, in [`super::ending`].
pub fn respond(failure: &Failure, manner: Manner, origin: &str, decision_id: &str) -> LocalResponse {
    let face = face(failure);
    if manner.grpc {
        return grpc(&face);
    }
    // Which of many mistakes it was only the reason tells, and none of ours has a word of the request in it.
    let detail = (face.status == StatusCode::BAD_REQUEST).then(|| failure.to_string());
    let detail = detail.as_deref();
    let mut response = if manner.page { page(&face, detail, decision_id) } else { problem(&face, detail, decision_id) };
    let headers = &mut response.headers;
    if let Some(challenge) = face.challenge(origin) {
        headers.insert(WWW_AUTHENTICATE, challenge);
    }
    if face.status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("2"));
    }
    if face.status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static(PROXIED_METHODS));
    }
    response
}

pub fn outcome(failure: &Failure) -> Outcome {
    outcome_of(face(failure).status)
}

/// What an answer of ours is counted as.
pub fn outcome_of(status: StatusCode) -> Outcome {
    match status {
        StatusCode::SEE_OTHER => Outcome::SentToSignIn,
        StatusCode::UNAUTHORIZED => Outcome::Unauthenticated,
        StatusCode::FORBIDDEN => Outcome::Forbidden,
        StatusCode::SERVICE_UNAVAILABLE => Outcome::Unavailable,
        StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT | StatusCode::CONFLICT => Outcome::UpstreamFailed,
        _ => Outcome::Refused,
    }
}

/// What a caller sees of a failure.
struct Face {
    status: StatusCode,
    /// gRPC's code for it (google.rpc.Code).
    grpc: u8,
    title: &'static str,
    challenge: Challenge,
}

enum Challenge {
    None,
    /// RFC 6750 §3: no error code where no token came.
    Bearer,
    InvalidToken,
    Scope(String),
    /// RFC 9470 §3.
    StepUp(StepUp),
}

fn face(failure: &Failure) -> Face {
    let plain = |status, grpc, title| Face { status, grpc, title, challenge: Challenge::None };
    match failure {
        Failure::Unreadable(unreadable) => {
            let (status, title) = unreadable.status();
            let code = match status {
                StatusCode::PAYLOAD_TOO_LARGE
                | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
                | StatusCode::URI_TOO_LONG => 8,
                StatusCode::REQUEST_TIMEOUT => 4,
                _ => 3,
            };
            plain(status, code, title)
        }
        Failure::Malformed(malformed) => match malformed {
            Malformed::Path(_) | Malformed::Query => {
                plain(StatusCode::BAD_REQUEST, 3, "The URL could be read in more than one way")
            }
            Malformed::MethodRefused => plain(StatusCode::METHOD_NOT_ALLOWED, 12, "This method is not allowed here"),
            Malformed::Expectation => plain(StatusCode::EXPECTATION_FAILED, 3, "The expectation cannot be met"),
            Malformed::Method | Malformed::MaxForwards => plain(StatusCode::BAD_REQUEST, 3, "The request is malformed"),
            Malformed::Duplicate(_) | Malformed::Connection | Malformed::Disguise => {
                plain(StatusCode::BAD_REQUEST, 3, "The request could be read in more than one way")
            }
        },
        Failure::Refused(refusal) => refused(refusal),
        Failure::Unavailable(Unavailable) => plain(
            StatusCode::SERVICE_UNAVAILABLE,
            14,
            "Your sign-in cannot be checked at the moment; try again shortly",
        ),
        Failure::NoPolicy => plain(StatusCode::SERVICE_UNAVAILABLE, 14, "Not ready yet"),
        Failure::NoRoom => plain(StatusCode::SERVICE_UNAVAILABLE, 14, "Too many requests are under way"),
        Failure::Upstream(error) => match error {
            UpstreamError::Connect(_) | UpstreamError::Closed => {
                plain(StatusCode::BAD_GATEWAY, 14, "The application did not answer")
            }
            UpstreamError::CutOff | UpstreamError::Io(_) => {
                plain(StatusCode::BAD_GATEWAY, 14, "The application broke off")
            }
            UpstreamError::Invalid(InvalidReply::TooLarge | InvalidReply::Syntax(httparse::Error::TooManyHeaders)) => {
                plain(StatusCode::BAD_GATEWAY, 13, "The application's answer has more headers than are passed on")
            }
            UpstreamError::Invalid(_) => {
                plain(StatusCode::BAD_GATEWAY, 13, "The application's answer could not be understood")
            }
            UpstreamError::TimedOut => plain(StatusCode::GATEWAY_TIMEOUT, 4, "The application took too long"),
        },
        Failure::HandBack(error) => match error {
            HandBackError::NotUnderstood(_)
            | HandBackError::Commit(CommitError::NotWritable | CommitError::TooLarge) => {
                plain(StatusCode::BAD_GATEWAY, 13, "The application's answer could not be handed on")
            }
            // Whoever is told to be signed out must be, and of another issuer's token we cannot see to that.
            HandBackError::Foreign => {
                plain(StatusCode::CONFLICT, 9, "You signed in elsewhere: there is no session here to save to or to end")
            }
            HandBackError::SeveralTokens => {
                plain(StatusCode::CONFLICT, 9, "More than one token was sent, so nobody was signed out")
            }
            HandBackError::SignOut(SignOutError::NotASession) => {
                plain(StatusCode::CONFLICT, 9, "This token is no session, and signing out does not end it")
            }
            HandBackError::NoSession => {
                plain(StatusCode::CONFLICT, 9, "Nobody is signed in, so there is no session to save to")
            }
            HandBackError::Commit(CommitError::NotASession) => {
                plain(StatusCode::CONFLICT, 9, "This token is no session, so there is nothing to save to")
            }
            HandBackError::Commit(CommitError::Gone) => {
                plain(StatusCode::CONFLICT, 9, "Your session has ended; nothing was saved")
            }
            HandBackError::Commit(CommitError::Conflict) => {
                plain(StatusCode::CONFLICT, 10, "Your session changed meanwhile; nothing was saved. Try again")
            }
            HandBackError::Commit(CommitError::Unavailable) | HandBackError::SignOut(SignOutError::Unavailable(_)) => {
                plain(StatusCode::SERVICE_UNAVAILABLE, 14, "Your session could not be saved")
            }
        },
    }
}

fn refused(refusal: &Refusal) -> Face {
    let unauthorized = |title, challenge| Face { status: StatusCode::UNAUTHORIZED, grpc: 16, title, challenge };
    let forbidden = |title, challenge| Face { status: StatusCode::FORBIDDEN, grpc: 7, title, challenge };
    match refusal {
        Refusal::NoToken => unauthorized("Sign in first", Challenge::Bearer),
        Refusal::Credential(CredentialError::Ambiguous(_)) => {
            Face { status: StatusCode::BAD_REQUEST, grpc: 3, title: "More than one token", challenge: Challenge::None }
        }
        Refusal::Credential(CredentialError::Malformed(_)) | Refusal::Inactive => {
            unauthorized("The token is not valid", Challenge::InvalidToken)
        }
        Refusal::Ended => unauthorized("The session has ended", Challenge::InvalidToken),
        Refusal::Denied | Refusal::Role => forbidden("Not allowed", Challenge::None),
        Refusal::CrossSite => forbidden("Requests from other sites are not allowed", Challenge::None),
        Refusal::Scope { required } => forbidden("The token lacks a scope", Challenge::Scope(required.clone())),
        Refusal::StepUp(step_up) => {
            unauthorized("A stronger or more recent sign-in is needed", Challenge::StepUp(step_up.clone()))
        }
    }
}

impl Face {
    fn challenge(&self, origin: &str) -> Option<HeaderValue> {
        let mut text = String::with_capacity(256);
        text.push_str("Bearer ");
        let mut add = |name: &str, value: &str| {
            if !text.ends_with(' ') {
                text.push_str(", ");
            }
            text.push_str(name);
            text.push_str("=\"");
            for piece in value.split(['"', '\\']) {
                text.push_str(piece);
            }
            text.push('"');
        };
        match &self.challenge {
            Challenge::None => return None,
            Challenge::Bearer => {}
            Challenge::InvalidToken => add("error", "invalid_token"),
            Challenge::Scope(required) => {
                add("error", "insufficient_scope");
                add("scope", required);
            }
            Challenge::StepUp(step_up) => {
                add("error", "insufficient_user_authentication");
                if let Some(acr) = &step_up.acr {
                    add("acr_values", acr);
                }
                if let Some(max_age) = step_up.max_age {
                    add("max_age", &max_age.to_string());
                }
            }
        }
        add("resource_metadata", &[origin, RESOURCE_METADATA_PATH].concat());
        HeaderValue::try_from(text).ok()
    }
}

/// RFC 9457
fn problem(face: &Face, detail: Option<&str>, decision_id: &str) -> LocalResponse {
    // All of it is ours, and has nothing that JSON would escape.
    let (before, detail, after) = detail.map_or(("", "", ""), |detail| (r#""detail":""#, detail, r#"","#));
    let body = [
        r#"{"decision_id":""#,
        decision_id,
        r#"","#,
        before,
        detail,
        after,
        r#""status":"#,
        face.status.as_str(),
        r#","title":""#,
        face.title,
        r#"","type":"about:blank"}"#,
    ];
    pages::respond(face.status, face.title, "application/problem+json", body.concat())
}

/// All of it is ours: nothing of the request is in it.
fn page(face: &Face, detail: Option<&str>, decision_id: &str) -> LocalResponse {
    let no_sign_in = match face.challenge {
        Challenge::Bearer => "<p>There is no signing in with a browser here: programs send a token.</p>",
        _ => "",
    };
    let reason = detail.map(|detail| format!("<p>The reason: {detail}.</p>"));
    pages::failure(face.status, face.title, reason.as_deref().unwrap_or(no_sign_in), decision_id)
}

/// Trailers-only: a response that is its own end (gRPC over HTTP/2, "Responses").
fn grpc(face: &Face) -> LocalResponse {
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(GRPC_STATUS, HeaderValue::from(u16::from(face.grpc)));
    headers.insert(HeaderName::from_static("grpc-message"), HeaderValue::from_static(face.title));
    LocalResponse { status: StatusCode::OK, title: face.title, headers, body: Bytes::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::cleanse::path::AmbiguousPath;

    fn answer(refusal: Refusal) -> LocalResponse {
        respond(&refusal.into(), Manner::default(), "https://a.example", "d1")
    }

    fn challenge(refusal: Refusal) -> String {
        answer(refusal).headers[WWW_AUTHENTICATE].to_str().unwrap().to_owned()
    }

    #[test]
    fn a_challenge_says_what_would_help() {
        let metadata = r#"resource_metadata="https://a.example/.well-known/oauth-protected-resource""#;
        assert_eq!(challenge(Refusal::NoToken), format!("Bearer {metadata}"));
        assert_eq!(challenge(Refusal::Inactive), format!(r#"Bearer error="invalid_token", {metadata}"#));
        assert_eq!(
            challenge(Refusal::Scope { required: "a b".into() }),
            format!(r#"Bearer error="insufficient_scope", scope="a b", {metadata}"#)
        );
        assert_eq!(
            challenge(Refusal::StepUp(StepUp { acr: Some("mfa".into()), max_age: Some(60) })),
            format!(r#"Bearer error="insufficient_user_authentication", acr_values="mfa", max_age="60", {metadata}"#)
        );
        assert!(!answer(Refusal::Denied).headers.contains_key(WWW_AUTHENTICATE));
    }

    #[test]
    fn a_bad_request_is_told_what_is_wrong_with_it() {
        let detail = |failure: Failure| {
            let response = respond(&failure, Manner::default(), "", "d1");
            let problem: serde_json::Value = serde_json::from_slice(&response.body).expect("JSON");
            (response.status.as_u16(), problem["detail"].as_str().map(str::to_owned))
        };
        for unreadable in [
            Unreadable::Syntax(httparse::Error::HeaderName),
            Unreadable::LineEnd,
            Unreadable::Target,
            Unreadable::Host,
            Unreadable::Framing,
            Unreadable::Chunk,
            Unreadable::CutOff,
            Unreadable::PlainHttp,
        ] {
            assert_eq!(detail(unreadable.into()), (400, Some(unreadable.to_string())));
        }
        for malformed in [
            Malformed::Method,
            Malformed::Query,
            Malformed::Duplicate("Origin"),
            Malformed::Connection,
            Malformed::Disguise,
            Malformed::Path(AmbiguousPath::Encoded),
        ] {
            assert_eq!(detail(malformed.into()), (400, Some(malformed.to_string())));
        }
        let twice = Refusal::Credential(CredentialError::Ambiguous("two cookies"));
        assert_eq!(detail(twice.clone().into()), (400, Some("more than one token: two cookies".into())));
        let page = respond(&twice.into(), Manner { page: true, ..Manner::default() }, "", "d1");
        assert!(String::from_utf8_lossy(&page.body).contains("two cookies"));
        assert_eq!(detail(Refusal::Denied.into()), (403, None));
    }

    #[test]
    fn an_outage_is_no_sign_out() {
        let failure = Failure::Unavailable(Unavailable);
        let response = respond(&failure, Manner::default(), "", "d1");
        assert_eq!(response.status, 503);
        assert!(response.headers.contains_key(RETRY_AFTER));
        assert!(!response.headers.contains_key("set-cookie"));
        let manner = Manner { page: true, unauthenticated: Some(Unauthenticated::Redirect), ..Manner::default() };
        assert_eq!(sign_in(&failure, manner), None);
    }

    #[test]
    fn only_those_who_could_sign_in_are_sent_to() {
        let page = Manner { page: true, unauthenticated: Some(Unauthenticated::Auto), ..Manner::default() };
        let call = Manner { page: false, ..page };
        assert!(sign_in(&Refusal::NoToken.into(), page).is_some());
        assert!(sign_in(&Refusal::NoToken.into(), call).is_none());
        assert!(
            sign_in(&Refusal::NoToken.into(), Manner { unauthenticated: Some(Unauthenticated::Redirect), ..call })
                .is_some()
        );
        assert!(
            sign_in(&Refusal::NoToken.into(), Manner { unauthenticated: Some(Unauthenticated::Deny), ..page })
                .is_none()
        );
        assert!(sign_in(&Refusal::Denied.into(), page).is_none());
        assert!(sign_in(&Refusal::NoToken.into(), Manner { grpc: true, ..page }).is_none());
        let redirect = Manner { unauthenticated: Some(Unauthenticated::Redirect), ..page };
        for refusal in [Refusal::Inactive, Refusal::Ended, Refusal::StepUp(StepUp::default())] {
            assert!(sign_in(&refusal.clone().into(), redirect).is_some());
            assert!(sign_in(&refusal.into(), Manner { by_header: true, ..redirect }).is_none());
        }
    }

    #[test]
    fn grpc_callers_get_grpc_codes() {
        let manner = Manner { grpc: true, ..Manner::default() };
        for (failure, code) in [
            (Failure::from(Refusal::NoToken), "16"),
            (Refusal::Denied.into(), "7"),
            (Failure::Unavailable(Unavailable), "14"),
            (Unreadable::BodyTooLarge.into(), "8"),
            (Unreadable::HeadTooLarge.into(), "8"),
            (Unreadable::TimedOut.into(), "4"),
            (Unreadable::Chunk.into(), "3"),
        ] {
            let response = respond(&failure, manner, "", "d1");
            assert_eq!((response.status.as_u16(), response.headers["grpc-status"].to_str().unwrap()), (200, code));
            assert!(response.body.is_empty());
        }
    }
}
