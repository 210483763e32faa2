//! One request, one bounded answer. Anything but a well-formed answer that the contract names is a failure, never a verdict.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cloakroom_protocol::interest::{Interest, STREAM_HEADER};
use cloakroom_protocol::internal_api::{self, IntrospectForm, IntrospectMany, Problem};
use cloakroom_protocol::introspection::Introspection;
use cloakroom_protocol::revocation::{Acknowledgement, Receipt, RevokeRequest};
use cloakroom_protocol::session::{SessionPatch, UsageReport};
use cloakroom_protocol::sign_in::{CodeExchange, PushedAuthorization, PushedAuthorizationAnswer, SignedIn};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, DATE};
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout};

use super::connection::{Connection, Generation};
use super::workload_token::{NoWorkloadToken, WorkloadToken};
use crate::config::Policy;
use crate::{clock, log};

/// Enough for a replica in trouble, short enough for a person.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// How long signing out waits for the other sidecars' receipts.
const RECEIPT_WAIT: Duration = Duration::from_secs(1);
pub const STREAM: HeaderName = HeaderName::from_static(STREAM_HEADER);
/// A JWT with the session's data in it, and once more beside it.
const MAX_ANSWER: usize = 256 << 10;
/// Several of them, most of which are small.
const MAX_ANSWERS: usize = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("not connected: {0}")]
    NotConnected(Arc<str>),
    #[error(transparent)]
    Workload(#[from] NoWorkloadToken),
    #[error("no answer in time")]
    Timeout,
    #[error("connection: {0}")]
    Http(#[from] hyper::Error),
    #[error("answered {status}: {problem}")]
    Status { status: StatusCode, problem: String },
    #[error("answer too large")]
    TooLarge,
    #[error("malformed answer: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("malformed request: {0}")]
    Request(String),
    #[error("the auth service could not find out")]
    Unanswered,
}

impl CallError {
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }
}

pub struct Calls {
    pub connection: Connection,
    pub workload: WorkloadToken,
}

/// What an answer says, with what is needed to judge its times.
pub struct Answered<T> {
    pub value: T,
    /// The auth service's clock when it answered, Unix seconds; ours if it did not say.
    pub server_time: u64,
    /// Bytes of the body.
    pub size: usize,
    /// The event stream that tells of changes to it.
    pub stream: Option<Arc<str>>,
}

/// Whether a request may be sent a second time when its answer was lost.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeat {
    /// Twice is as good as once.
    Safe,
    /// Only if it certainly was not sent.
    Unsent,
}

struct Whole {
    body: Bytes,
    server_time: u64,
    stream: Option<Arc<str>>,
}

struct Call {
    method: Method,
    path: &'static str,
    query: String,
    content_type: &'static str,
    accept: &'static str,
    last_event: Option<String>,
    /// The event stream that is to tell of changes to the answer.
    stream: Option<String>,
    body: Bytes,
    timeout: Duration,
    repeat: Repeat,
    /// Bytes of the answer.
    most: usize,
}

impl Calls {
    pub async fn introspect(
        &self,
        policy: &Policy,
        form: &IntrospectForm,
        stream: Option<String>,
    ) -> Result<Answered<Introspection>, CallError> {
        let call = Call { stream, ..Call::form(internal_api::INTROSPECT, form, Repeat::Safe)? };
        let Whole { body, server_time, stream } = self.whole(policy, &call).await?;
        Ok(Answered { value: Introspection::parse(&body)?, server_time, size: body.len(), stream })
    }

    /// An answer for each token, or none where the auth service had none.
    pub async fn introspect_many(
        &self,
        policy: &Policy,
        questions: &IntrospectMany,
        stream: Option<String>,
    ) -> Result<Vec<Option<Answered<Introspection>>>, CallError> {
        let call = Call::json(internal_api::INTROSPECT_MANY, questions, Repeat::Safe)?;
        let Whole { body, server_time, stream } =
            self.whole(policy, &Call { stream, most: MAX_ANSWERS, ..call }).await?;
        let answer = |line: &[u8]| {
            let answer = Introspection::parse_line(line)?;
            Ok(answer.map(|value| {
                let covered = matches!(&value, Introspection::Active(active) if active.covered);
                Answered { value, server_time, size: line.len(), stream: stream.clone().filter(|_| covered) }
            }))
        };
        let answers = lines(&body).map(answer).collect::<Result<Vec<_>, serde_json::Error>>()?;
        if answers.len() != questions.tokens.len() {
            return Err(CallError::Malformed(serde::de::Error::custom("not one answer for each token")));
        }
        Ok(answers)
    }

    /// A lost answer is not asked for again: it would be a conflict with what it wrote itself.
    pub async fn commit(
        &self,
        policy: &Policy,
        patch: &SessionPatch,
        stream: Option<String>,
    ) -> Result<Answered<Introspection>, CallError> {
        self.json(policy, Call { stream, ..Call::json(internal_api::SESSION, patch, Repeat::Unsent)? }).await
    }

    pub async fn revoke(&self, policy: &Policy, revoke: &RevokeRequest) -> Result<Receipt, CallError> {
        let mut call = Call::json(internal_api::REVOKE, revoke, Repeat::Safe)?;
        call.query = format!("?wait={}", RECEIPT_WAIT.as_millis());
        call.timeout += RECEIPT_WAIT;
        Ok(self.json(policy, call).await?.value)
    }

    pub async fn push_authorization(
        &self,
        policy: &Policy,
        request: &PushedAuthorization,
    ) -> Result<PushedAuthorizationAnswer, CallError> {
        Ok(self.json(policy, Call::form(internal_api::PAR, request, Repeat::Safe)?).await?.value)
    }

    /// A code works once.
    pub async fn redeem(&self, policy: &Policy, exchange: &CodeExchange) -> Result<SignedIn, CallError> {
        Ok(self.json(policy, Call::form(internal_api::TOKEN, exchange, Repeat::Unsent)?).await?.value)
    }

    pub async fn report_usage(&self, policy: &Policy, report: &UsageReport) -> Result<(), CallError> {
        self.whole(policy, &Call::json(internal_api::USAGE, report, Repeat::Safe)?).await.map(drop)
    }

    pub async fn acknowledge(&self, policy: &Policy, ack: &Acknowledgement) -> Result<(), CallError> {
        self.whole(policy, &Call::json(internal_api::ACKNOWLEDGE, ack, Repeat::Safe)?).await.map(drop)
    }

    pub async fn declare(&self, policy: &Policy, interest: &Interest) -> Result<(), CallError> {
        self.whole(policy, &Call::json(internal_api::INTEREST, interest, Repeat::Safe)?).await.map(drop)
    }

    /// The key set as it is served to apps; checked to be one.
    pub async fn jwks(&self, policy: &Policy) -> Result<Bytes, CallError> {
        #[derive(serde::Deserialize)]
        struct KeySet {
            #[serde(rename = "keys")]
            _keys: Vec<serde_json::Map<String, serde_json::Value>>,
        }
        let call = Call::get(internal_api::JWKS);
        let Whole { body, .. } = self.whole(policy, &call).await?;
        let KeySet { .. } = serde_json::from_slice(&body)?;
        Ok(body)
    }

    /// The event stream's head; its body goes on for as long as the connection does.
    pub async fn events(
        &self,
        policy: &Policy,
        sidecar: &str,
        last: Option<&str>,
    ) -> Result<(Response<Incoming>, Generation), CallError> {
        let sidecar: String = form_urlencoded::byte_serialize(sidecar.as_bytes()).collect();
        let call = Call {
            query: format!("?sidecar={sidecar}"),
            accept: "text/event-stream",
            last_event: last.map(str::to_owned),
            ..Call::get(internal_api::EVENTS)
        };
        let opened = async {
            let (response, generation) = self.send(policy, &call).await?;
            if response.status() == StatusCode::OK {
                return Ok((response, generation));
            }
            Err(self.refused(response).await)
        };
        timeout(call.timeout, opened).await.map_err(|_| CallError::Timeout)?
    }

    async fn json<T: DeserializeOwned>(&self, policy: &Policy, call: Call) -> Result<Answered<T>, CallError> {
        let Whole { body, server_time, stream } = self.whole(policy, &call).await?;
        Ok(Answered { value: serde_json::from_slice(&body)?, server_time, size: body.len(), stream })
    }

    async fn whole(&self, policy: &Policy, call: &Call) -> Result<Whole, CallError> {
        let exchange = async {
            let (response, _) = self.send(policy, call).await?;
            if !response.status().is_success() {
                return Err(self.refused(response).await);
            }
            let header = |name| response.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
            let date = header(DATE).and_then(clock::parse_http_date);
            let stream = header(STREAM).map(Arc::from);
            let body = collect(response.into_body(), call.most).await?;
            let server_time = date.unwrap_or_else(|| clock::unix_now().as_secs());
            Ok(Whole { body, server_time, stream })
        };
        timeout(call.timeout, exchange).await.map_err(|_| CallError::Timeout)?
    }

    fn request(&self, policy: &Policy, call: &Call) -> Result<Request<Full<Bytes>>, CallError> {
        let wrong = || CallError::Request(call.path.to_owned());
        let path = if call.query.is_empty() {
            PathAndQuery::from_static(call.path)
        } else {
            [call.path, &call.query].concat().parse().map_err(|_| wrong())?
        };
        let mut request = Request::new(Full::new(call.body.clone()));
        *request.method_mut() = call.method.clone();
        // HTTP/2 has `:authority` in the place of `Host`.
        *request.uri_mut() = policy.endpoint.uri(path).ok_or_else(wrong)?;
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, self.workload.authorization(Instant::now())?);
        headers.insert(ACCEPT, HeaderValue::from_static(call.accept));
        if !call.content_type.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(call.content_type));
        }
        if let Some(last) = &call.last_event {
            headers.insert("last-event-id", HeaderValue::from_str(last).map_err(|_| wrong())?);
        }
        if let Some(stream) = &call.stream {
            headers.insert(STREAM, HeaderValue::from_str(stream).map_err(|_| wrong())?);
        }
        Ok(request)
    }

    /// A connection that has just ended, or takes no more requests, is replaced, once.
    async fn send(&self, policy: &Policy, call: &Call) -> Result<(Response<Incoming>, Generation), CallError> {
        let (failure, unsent) = match self.send_once(self.request(policy, call)?).await {
            Err(Failure::Lost(error, unsent)) => (error, unsent),
            Err(Failure::Final(error)) => return Err(error),
            Ok(answer) => return Ok(answer),
        };
        let second = match unsent {
            Some(request) => *request,
            None if call.repeat == Repeat::Safe => self.request(policy, call)?,
            None => return Err(failure),
        };
        self.send_once(second).await.map_err(|failure| match failure {
            Failure::Lost(error, _) | Failure::Final(error) => error,
        })
    }

    async fn send_once(&self, request: Request<Full<Bytes>>) -> Result<(Response<Incoming>, Generation), Failure> {
        let mut connection = self.connection.clone();
        let (mut sender, generation) =
            connection.get().await.map_err(|reason| Failure::Final(CallError::NotConnected(reason)))?;
        match sender.try_send_request(request).await {
            Ok(response) => Ok((response, generation)),
            Err(mut error) => {
                connection.is_worn(generation);
                connection.replaced(generation).await;
                let unsent = error.take_message().map(Box::new);
                Err(Failure::Lost(error.into_error().into(), unsent))
            }
        }
    }

    /// What the contract calls a refusal. Our own credential being refused is an outage of ours, and loud.
    async fn refused(&self, response: Response<Incoming>) -> CallError {
        let status = response.status();
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            self.workload.read_again();
            log::error("the auth service refuses this workload's token", &[("status", &status.as_u16())]);
        }
        let problem = match collect(response.into_body(), MAX_ANSWER).await {
            Ok(body) => serde_json::from_slice::<Problem>(&body)
                .map(|problem| problem.detail.unwrap_or(problem.title))
                .unwrap_or_default(),
            Err(error) => error.to_string(),
        };
        CallError::Status { status, problem }
    }
}

enum Failure {
    /// The connection broke; the request, if it certainly was not sent.
    Lost(CallError, Option<Box<Request<Full<Bytes>>>>),
    Final(CallError),
}

impl Call {
    fn get(path: &'static str) -> Self {
        Self {
            method: Method::GET,
            path,
            query: String::new(),
            content_type: "",
            accept: "application/json",
            last_event: None,
            stream: None,
            body: Bytes::new(),
            timeout: CALL_TIMEOUT,
            repeat: Repeat::Safe,
            most: MAX_ANSWER,
        }
    }

    fn form(path: &'static str, form: &impl Serialize, repeat: Repeat) -> Result<Self, CallError> {
        let body = serde_urlencoded::to_string(form).map_err(|error| CallError::Request(error.to_string()))?;
        Ok(Self::post(path, "application/x-www-form-urlencoded", body.into(), repeat))
    }

    fn json(path: &'static str, body: &impl Serialize, repeat: Repeat) -> Result<Self, CallError> {
        let body = serde_json::to_vec(body).map_err(|error| CallError::Request(error.to_string()))?;
        Ok(Self::post(path, "application/json", body.into(), repeat))
    }

    fn post(path: &'static str, content_type: &'static str, body: Bytes, repeat: Repeat) -> Self {
        Self { method: Method::POST, content_type, body, repeat, ..Self::get(path) }
    }
}

async fn collect(mut body: Incoming, most: usize) -> Result<Bytes, CallError> {
    let said = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if said > most {
        return Err(CallError::TooLarge);
    }
    let mut whole = BytesMut::with_capacity(said);
    loop {
        let Some(frame) = body.frame().await else { return Ok(whole.freeze()) };
        if let Ok(data) = frame?.into_data() {
            if whole.len() + data.len() > most {
                return Err(CallError::TooLarge);
            }
            whole.extend_from_slice(&data);
        }
    }
}

/// Those that are not empty.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            let line = &rest[..end];
            rest = rest.get(end + 1..).unwrap_or_default();
            if !line.is_empty() {
                return Some(line);
            }
        }
        None
    })
}
