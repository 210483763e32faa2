//! An auth service that is quicker than any real one: it looks nothing up, signs nothing, and has every answer at hand. So a sidecar that
//! asks it spends no more and no less than its own work, as the other proxies do that ask nginx.
//!
//!     quick-authority <port> <beginning of the tokens that it refuses>

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use cloakroom_protocol::events::{Event, HEARTBEAT_SECONDS, Heartbeat};
use cloakroom_protocol::interest::STREAM_HEADER;
use cloakroom_protocol::internal_api::{self, IntrospectForm, IntrospectMany};
use cloakroom_protocol::introspection::{ActiveToken, Introspection};
use cloakroom_protocol::token::{OpaqueToken, TokenId};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::{Interval, interval};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// As long as a signed one of the real auth service.
const JWT_BYTES: usize = 700;
const EXPIRES: u64 = 4_000_000_000;
/// It has one event stream, which tells of everything, since nothing ever happens.
const STREAM: HeaderValue = HeaderValue::from_static("bench");

/// Every answer is the same, but for the token's id.
struct Authority {
    refused: String,
    before_id: String,
    after_id: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let (Some(port), Some(refused)) = (arguments.next(), arguments.next()) else {
        return Err("usage: quick-authority <port> <beginning of the tokens that it refuses>".into());
    };
    let authority = Arc::new(Authority::new(refused)?);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port.parse()?)).await?;
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let authority = Arc::clone(&authority);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&authority), request));
            // A sidecar that goes away is no trouble.
            let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service).await;
        });
    }
}

impl Authority {
    fn new(refused: String) -> Result<Self, Error> {
        let id: TokenId = "IDIDIDIDIDIDIDIDIDIDID".parse()?;
        let active: ActiveToken = serde_json::from_value(json!({
            "active": true, "kind": "access", "id": id, "sub": "client:bench", "client_id": "bench/client", "scope": "read write",
            "exp": EXPIRES, "iat": 1, "jwt": "e".repeat(JWT_BYTES), "jwt_exp": EXPIRES,
            "covered": true,
        }))?;
        let line = serde_json::to_string(&active)?;
        let (before, after) = line.split_once(id.as_str()).ok_or("an answer without an id")?;
        Ok(Self { refused, before_id: before.to_owned(), after_id: after.to_owned() })
    }

    fn write(&self, token: &str, out: &mut String) -> Result<(), Error> {
        match OpaqueToken::parse(token.as_bytes()) {
            Ok(good) if !token.starts_with(&self.refused) => {
                out.extend([&self.before_id, good.id().as_str(), &self.after_id]);
            }
            _ => out.push_str(&serde_json::to_string(&Introspection::INACTIVE)?),
        }
        Ok(())
    }

    fn lines(&self, path: &str, body: &[u8]) -> Result<String, Error> {
        let mut lines = String::new();
        match path {
            internal_api::INTROSPECT => {
                self.write(&serde_urlencoded::from_bytes::<IntrospectForm>(body)?.token, &mut lines)?;
            }
            internal_api::INTROSPECT_MANY => {
                for token in serde_json::from_slice::<IntrospectMany>(body)?.tokens {
                    self.write(&token, &mut lines)?;
                    lines.push('\n');
                }
            }
            internal_api::JWKS => lines.push_str(r#"{"keys":[]}"#),
            _ => lines.push_str("{}"),
        }
        Ok(lines)
    }
}

async fn answer(
    authority: Arc<Authority>,
    request: Request<Incoming>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, Error> {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let mut response = if path == internal_api::EVENTS {
        let mut response = Response::new(Heartbeats::new().boxed());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        response
    } else {
        let body = body.collect().await?.to_bytes();
        Response::new(Full::from(authority.lines(path, &body)?).boxed())
    };
    response.headers_mut().insert(STREAM_HEADER, STREAM);
    Ok(response)
}

/// An event stream without news.
struct Heartbeats {
    beats: Interval,
    count: u64,
}

impl Heartbeats {
    fn new() -> Self {
        Self { beats: interval(Duration::from_secs(HEARTBEAT_SECONDS)), count: 0 }
    }
}

impl Body for Heartbeats {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        self.beats.poll_tick(cx).map(|_| {
            self.count += 1;
            let event = Event::Heartbeat(Heartbeat { at: self.count * HEARTBEAT_SECONDS * 1000 });
            let (id, name, data) = (self.count, event.name(), event.data());
            Some(Ok(Frame::data(Bytes::from(format!("id: {id}-0\nevent: {name}\ndata: {data}\n\n")))))
        })
    }
}
