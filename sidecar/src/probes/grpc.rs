//! gRPC probes: `grpc.health.v1.Health/Check` over HTTP/2 without TLS, as kubelet asks it.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::{ProbeError, connect};

const PATH: &str = "/grpc.health.v1.Health/Check";
const MAX_ANSWER: usize = 4 << 10;
/// `HealthCheckResponse.ServingStatus`
const SERVING: u8 = 1;

pub async fn check(port: u16, service: &str) -> Result<(), ProbeError> {
    let failed = |error: hyper::Error| ProbeError::Grpc(error.to_string());
    let io = TokioIo::new(connect(port).await?);
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.map_err(failed)?;
    // Ends with the sender.
    tokio::spawn(connection);
    let request = Request::post(format!("http://127.0.0.1:{port}{PATH}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "kube-probe/cloakroom")
        .body(Full::new(message(service)))
        .map_err(|error| ProbeError::Grpc(error.to_string()))?;
    let response = sender.send_request(request).await.map_err(failed)?;
    if response.status() != http::StatusCode::OK {
        return Err(ProbeError::Status(response.status().as_u16()));
    }
    let (head, mut body) = response.into_parts();
    // Trailers-only answers have it in the head.
    let mut status = head.headers.get("grpc-status").cloned();
    let mut answer = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(failed)?;
        if let Some(trailers) = frame.trailers_ref() {
            status = trailers.get("grpc-status").cloned().or(status);
        } else if let Ok(data) = frame.into_data() {
            if answer.len() + data.len() > MAX_ANSWER {
                return Err(ProbeError::Grpc("answer too large".to_owned()));
            }
            answer.extend_from_slice(&data);
        }
    }
    match status.as_ref().map(http::HeaderValue::as_bytes) {
        Some(b"0") if serving(&answer) => Ok(()),
        Some(b"0") => Err(ProbeError::Grpc("not serving".to_owned())),
        Some(other) => Err(ProbeError::Grpc(format!("status {}", String::from_utf8_lossy(other)))),
        None => Err(ProbeError::Grpc("no status".to_owned())),
    }
}

/// `HealthCheckRequest { service: 1 }`, length-prefixed.
fn message(service: &str) -> Bytes {
    let mut request = BytesMut::new();
    if !service.is_empty() {
        request.put_u8(1 << 3 | 2);
        put_varint(&mut request, service.len());
        request.put_slice(service.as_bytes());
    }
    let mut message = BytesMut::new();
    message.put_u8(0);
    message.put_u32(u32::try_from(request.len()).unwrap_or(u32::MAX));
    message.put_slice(&request);
    message.freeze()
}

fn put_varint(out: &mut BytesMut, mut value: usize) {
    while value >= 0x80 {
        out.put_u8(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.put_u8(value.to_le_bytes()[0]);
}

/// `HealthCheckResponse { status: 1 }`: a message of that one field, as every server writes it.
fn serving(answer: &[u8]) -> bool {
    answer == [0, 0, 0, 0, 2, 1 << 3, SERVING]
}
