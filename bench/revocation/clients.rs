//! A sidecar as the auth service sees it, without a data plane.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use cloakroom_protocol::events::{Event, Revoked};
use cloakroom_protocol::interest::STREAM_HEADER;
use cloakroom_protocol::internal_api;
use cloakroom_protocol::token::{OpaqueToken, TokenId};
use cloakroom_sidecar::auth_client::events::ACK_WITHIN;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::watch;

pub(crate) struct Client {
    calls: Calls,
    stream: String,
    /// The last token that it was told to refuse, and when.
    refused: watch::Receiver<Option<(TokenId, Instant)>>,
}

#[derive(Clone)]
struct Calls {
    sender: SendRequest<Full<Bytes>>,
    authorization: Arc<str>,
    address: SocketAddr,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr, workload: String) -> Result<Self> {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(tcp)).await?;
        tokio::spawn(connection);
        let mut calls = Calls { sender, authorization: format!("Bearer {workload}").into(), address };
        let path = format!("{}?sidecar=simulated", internal_api::EVENTS);
        let response = calls.send(Method::GET, &path, "", None, String::new()).await?;
        let stream = response.headers().get(STREAM_HEADER).context("no stream's name")?.to_str()?.to_owned();
        let (tell, refused) = watch::channel(None);
        tokio::spawn(read(response.into_body(), calls.clone(), tell));
        // Nothing is held yet: from here on only what is asked about is sent.
        let interest = json!({"sidecar": "simulated", "stream": stream, "generation": 1, "filter": ""}).to_string();
        let declared = calls.send(Method::POST, internal_api::INTEREST, "application/json", None, interest).await?;
        ensure!(declared.status().is_success(), "declared: {}", declared.status());
        Ok(Self { calls, stream, refused })
    }

    /// As for a request with that token.
    pub(crate) async fn ask(&self, token: &OpaqueToken) -> Result<()> {
        let form = format!("token={}&policy=shop%2Fweb", token.expose());
        let tag = format!("{}.1", self.stream);
        let media_type = "application/x-www-form-urlencoded";
        let mut calls = self.calls.clone();
        let answer = calls.send(Method::POST, internal_api::INTROSPECT, media_type, Some(&tag), form).await?;
        ensure!(answer.headers().get(STREAM_HEADER).is_some(), "not covered");
        let body = answer.into_body().collect().await?.to_bytes();
        ensure!(memory_of(&body).contains("\"active\":true"), "not active");
        Ok(())
    }

    pub(crate) async fn refuses(&self, token: &OpaqueToken) -> Result<Instant> {
        let mut refused = self.refused.clone();
        let wanted = |told: &Option<(TokenId, Instant)>| told.is_some_and(|(id, _)| id == token.id());
        let told = tokio::time::timeout(Duration::from_secs(30), refused.wait_for(wanted)).await??;
        told.map(|(_, at)| at).context("never told")
    }
}

fn memory_of(body: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(body)
}

impl Calls {
    async fn send(
        &mut self,
        method: Method,
        path: &str,
        media_type: &str,
        stream: Option<&str>,
        body: String,
    ) -> Result<Response<Incoming>> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address))
            .header("authorization", &*self.authorization);
        if !media_type.is_empty() {
            request = request.header("content-type", media_type);
        }
        if let Some(stream) = stream {
            request = request.header(STREAM_HEADER, stream);
        }
        self.sender.ready().await?;
        Ok(self.sender.send_request(request.body(Full::new(Bytes::from(body)))?).await?)
    }
}

/// Notes what is revoked, then acknowledges it.
async fn read(mut body: Incoming, calls: Calls, tell: watch::Sender<Option<(TokenId, Instant)>>) {
    let mut text = String::new();
    let mut fresh = true;
    while let Some(Ok(frame)) = body.frame().await {
        text.push_str(&memory_of(frame.data_ref().map_or(&[], |data| data)));
        while let Some((block, rest)) = text.split_once("\n\n") {
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            let (id, event) = (field("id: "), Event::parse(field("event: "), field("data: ")));
            if let Ok(Event::Revoked(Revoked::Id { id })) = event {
                tell.send_replace(Some((id, Instant::now())));
            }
            if fresh || matches!(event, Ok(Event::Revoked(_))) {
                fresh = false;
                let ack = json!({"sidecar": "simulated", "last": id}).to_string();
                tokio::spawn(acknowledge(calls.clone(), ack));
            }
            text = rest.to_owned();
        }
    }
}

async fn acknowledge(mut calls: Calls, ack: String) {
    tokio::time::sleep(ACK_WITHIN.mul_f64(rand::random())).await;
    let sent = calls.send(Method::POST, internal_api::ACKNOWLEDGE, "application/json", None, ack).await;
    if let Ok(answer) = sent {
        let _ = answer.into_body().collect().await;
    }
}
