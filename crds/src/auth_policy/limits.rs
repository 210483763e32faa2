//! How much a client may send, and how long anything may be silent.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("duration(self.idleTimeout) >= duration('1s') && duration(self.idleTimeout) <= duration('24h')")
        .message("idleTimeout must be between 1s and 24h").field_path(".idleTimeout"),
    validation = Rule::new("duration(self.streamIdleTimeout) >= duration('1s') && duration(self.streamIdleTimeout) <= duration('24h')")
        .message("streamIdleTimeout must be between 1s and 24h").field_path(".streamIdleTimeout")
)]
pub struct Limits {
    /// All request headers together, with the request line; `Ki` and `Mi` are powers of 1024. More gets 431.
    #[serde(default = "default_request_headers")]
    #[schemars(length(max = 12), regex(pattern = r"^[1-9][0-9]{0,9}(Ki|Mi)?$"))]
    pub request_headers: String,

    /// The request's body. More gets 413. Of a gRPC call it bounds each message, as it is sent, and not the call: more ends that
    /// with `RESOURCE_EXHAUSTED`.
    #[serde(default = "default_request_body")]
    #[schemars(length(max = 12), regex(pattern = r"^[1-9][0-9]{0,9}(Ki|Mi|Gi)?$"))]
    pub request_body: String,

    /// A connection on which nothing moves for so long is closed; an app that has not begun to answer for so long gets a 504 said for it.
    #[serde(default = "default_idle_timeout")]
    #[schemars(length(max = 20), regex(pattern = r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"))]
    pub idle_timeout: String,

    /// The same for what may be silent for long: WebSockets and other upgrades, event streams (`text/event-stream`), gRPC calls.
    #[serde(default = "default_stream_idle_timeout")]
    #[schemars(length(max = 20), regex(pattern = r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"))]
    pub stream_idle_timeout: String,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_headers: default_request_headers(),
            request_body: default_request_body(),
            idle_timeout: default_idle_timeout(),
            stream_idle_timeout: default_stream_idle_timeout(),
        }
    }
}

fn default_request_headers() -> String {
    "32Ki".into()
}

fn default_request_body() -> String {
    "10Mi".into()
}

fn default_idle_timeout() -> String {
    "60s".into()
}

fn default_stream_idle_timeout() -> String {
    "1h".into()
}
