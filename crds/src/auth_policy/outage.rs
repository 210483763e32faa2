//! What becomes of requests while no auth service answers.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(self.mode == 'Lease') == has(self.__for__)").message("`for` belongs to mode Lease, and Lease needs it"),
    validation = Rule::new("!has(self.__for__) || duration(self.__for__) >= duration('1s')").message("for must be at least 1s").field_path(".for")
)]
pub struct Outage {
    /// `Deny`: 503 with Retry-After. `Lease`: who was authenticated before passes for a while longer, revoked or not.
    #[serde(default)]
    pub mode: OutageMode,

    /// For how long after the sidecar's own lease has ended, which is 5 s after the last sign of life of the auth service. The app gets the
    /// JWTs that are there, so it is at least 25 s shorter than `jwt.lifetime`; they are renewed as early as that takes. Whoever made
    /// no request for some time may be refused sooner.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20), regex(pattern = r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"))]
    pub lease_for: Option<String>,
}

#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutageMode {
    #[default]
    Deny,
    Lease,
}
