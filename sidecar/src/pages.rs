//! The few pages that people see of the sidecar: plain HTML, no script, nothing of a request in it that is not escaped.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue, StatusCode};
use sha2::{Digest as _, Sha256};

use crate::local_response::LocalResponse;

const STYLE: &str = "body{font:1.05rem/1.5 system-ui,sans-serif;max-width:36rem;margin:12vh auto;padding:0 1rem;color:#1b1b1f;background:#fff}\
    h1{font-size:1.5rem}a,button{font:inherit}button{padding:.5rem 1rem;margin:.25rem .5rem .25rem 0;cursor:pointer}code{word-break:break-all}\
    table{border-collapse:collapse}td,th{text-align:left;padding:.15rem 1rem .15rem 0;vertical-align:top}\
    @media(prefers-color-scheme:dark){body{color:#e6e6ea;background:#16161a}a{color:#9ab8ff}}";

/// Nothing but this one style.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let style = STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!("default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; frame-ancestors 'none'");
    HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
});

/// `html` is ours; whatever else goes into it has been through [`escape`].
pub fn page(status: StatusCode, title: &'static str, html: &str) -> LocalResponse {
    let heading = escape(title);
    let body = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{heading}</title><style>{STYLE}</style></head><body><main><h1>{heading}</h1>{html}</main></body></html>"
    );
    let mut response = respond(status, title, "text/html; charset=utf-8", body);
    response.headers.insert(CONTENT_SECURITY_POLICY, POLICY.clone());
    response.headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// A page that tells of a failure, and what to ask about.
pub fn failure(status: StatusCode, title: &'static str, html: &str, decision_id: &str) -> LocalResponse {
    let html = format!(
        "{html}<p>If this should not be so, ask whoever runs this site about decision <code>{}</code>.</p>",
        escape(decision_id)
    );
    page(status, title, &html)
}

pub fn json(status: StatusCode, value: &serde_json::Value) -> LocalResponse {
    respond(status, "", "application/json", value.to_string())
}

/// RFC 9457
pub fn problem(status: StatusCode, title: &'static str, decision_id: &str) -> LocalResponse {
    let value = serde_json::json!({
        "type": "about:blank", "title": title, "status": status.as_u16(), "decision_id": decision_id,
    });
    respond(status, title, "application/problem+json", value.to_string())
}

/// Never stored, and nothing else than it says.
pub fn respond(status: StatusCode, title: &'static str, content_type: &'static str, body: String) -> LocalResponse {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    LocalResponse { status, title, headers, body: Bytes::from(body) }
}

/// For text and for attributes in double quotes.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_title_becomes_markup() {
        let page = page(StatusCode::OK, "<script>\"'&", "<p>ours</p>");
        let body = String::from_utf8(page.body.to_vec()).unwrap();
        assert!(!body.contains("<script>"));
        assert!(body.contains("<h1>&lt;script&gt;&quot;&#39;&amp;</h1><p>ours</p>"));
        assert!(
            page.headers[CONTENT_SECURITY_POLICY]
                .to_str()
                .unwrap()
                .starts_with("default-src 'none'; style-src 'sha256-")
        );
    }
}
