//! Responses of the sidecar's own, as HTTP/1.1.

use http::StatusCode;

use crate::local_response::LocalResponse;
use crate::request::forward::{write_date, write_field, write_length, write_number};

/// The head, and the body unless the request was HEAD. `now`: Unix seconds.
pub fn write(response: &LocalResponse, to_head: bool, close: bool, now: u64, out: &mut Vec<u8>) {
    write_status(response.status.as_u16(), out);
    // RFC 9110 §6.6.1: whoever has a clock says when.
    write_date(now, out);
    for (name, value) in &response.headers {
        write_field(name.as_str().as_bytes(), value.as_bytes(), out);
    }
    if response.status.as_u16() != 204 && response.status.as_u16() != 304 {
        write_length(response.body.len() as u64, out);
    }
    if close {
        out.extend_from_slice(b"Connection: close\r\n");
    }
    out.extend_from_slice(b"\r\n");
    if !to_head {
        out.extend_from_slice(&response.body);
    }
}

/// With the usual words for it: what an app says there instead is read by nobody (RFC 9112 §4), and could be anything.
pub fn write_status(status: u16, out: &mut Vec<u8>) {
    if status == 200 {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    } else {
        let known = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
        out.extend_from_slice(b"HTTP/1.1 ");
        write_number(status.into(), out);
        out.push(b' ');
        out.extend_from_slice(known.unwrap_or_default().as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}
