//! Responses of the sidecar's own, as HTTP/1.1.

use crate::local_response::LocalResponse;
use crate::request::forward::{write_field, write_length, write_text};

/// The head, and the body unless the request was HEAD.
pub fn write(response: &LocalResponse, to_head: bool, close: bool, out: &mut Vec<u8>) {
    write_status(response.status.as_u16(), response.status.canonical_reason().unwrap_or_default(), out);
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

pub fn write_status(status: u16, reason: &str, out: &mut Vec<u8>) {
    if status == 200 && reason == "OK" {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    } else {
        write_text(out, format_args!("HTTP/1.1 {status} {reason}\r\n"));
    }
}
