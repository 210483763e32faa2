//! As much HTTP/1.1 as port 15020 needs: one small request a connection.

use std::fmt::Write as _;

use http::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::local_response::LocalResponse;

const MAX_HEAD: usize = 8 << 10;
const MAX_BODY: usize = 64;
const MAX_HEADERS: usize = 64;

pub struct AdminRequest {
    pub method: String,
    /// Without the query.
    pub path: String,
    pub host: Option<String>,
    pub body: String,
}

/// An error is the status to answer with.
pub async fn read(stream: &mut TcpStream) -> Result<AdminRequest, StatusCode> {
    let mut bytes = Vec::with_capacity(1024);
    loop {
        if let Some((mut request, head, length)) = parse(&bytes)? {
            if length > MAX_BODY {
                return Err(StatusCode::PAYLOAD_TOO_LARGE);
            }
            while bytes.len() < head + length {
                more(stream, &mut bytes).await?;
            }
            let body = bytes[head..head + length].to_vec();
            request.body = String::from_utf8(body).map_err(|_| StatusCode::BAD_REQUEST)?;
            return Ok(request);
        }
        if bytes.len() >= MAX_HEAD {
            return Err(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        }
        more(stream, &mut bytes).await?;
    }
}

/// The head, and the body unless the request was HEAD.
pub async fn write(stream: &mut TcpStream, response: &LocalResponse, to_head: bool) -> std::io::Result<()> {
    let mut head =
        format!("HTTP/1.1 {}\r\nconnection: close\r\ncontent-length: {}\r\n", response.status, response.body.len());
    for (name, value) in &response.headers {
        let _ = write!(head, "{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes()));
    }
    head.push_str("\r\n");
    let mut whole = head.into_bytes();
    if !to_head {
        whole.extend_from_slice(&response.body);
    }
    stream.write_all(&whole).await?;
    stream.shutdown().await
}

/// Request, length of its head, length of its body; `None` while more is to come.
fn parse(bytes: &[u8]) -> Result<Option<(AdminRequest, usize, usize)>, StatusCode> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let head = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(StatusCode::BAD_REQUEST),
    };
    let (method, target) = (parsed.method.unwrap_or_default(), parsed.path.unwrap_or_default());
    let header = |wanted: &str| {
        let header = parsed.headers.iter().find(|header| header.name.eq_ignore_ascii_case(wanted));
        header.and_then(|header| std::str::from_utf8(header.value).ok())
    };
    if header("transfer-encoding").is_some() {
        return Err(StatusCode::NOT_IMPLEMENTED);
    }
    let length = header("content-length").map_or(Ok(0), str::parse).map_err(|_| StatusCode::BAD_REQUEST)?;
    let request = AdminRequest {
        method: method.to_owned(),
        path: target.split('?').next().unwrap_or_default().to_owned(),
        host: header("host").map(str::to_owned),
        body: String::new(),
    };
    Ok(Some((request, head, length)))
}

async fn more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Result<(), StatusCode> {
    match stream.read_buf(bytes).await {
        Ok(0) | Err(_) => Err(StatusCode::BAD_REQUEST),
        Ok(_) => Ok(()),
    }
}
