//! Proof that the sidecar, and nothing else, answers on a protected port.
//!
//! The operator sends `GET /.cloakroom/proof?nonce=<22 base62>` there; the answer is a [`Proof`] whose MAC only a holder of the policy's
//! key can make.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

pub const PATH: &str = "/.cloakroom/proof";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    pub nonce: String,
    pub pod_uid: String,
    /// The app port that this listener protects.
    pub port: u16,
    /// The config in force.
    pub revision: String,
    /// Base64url HMAC-SHA256 over the fields above.
    pub mac: String,
}

impl Proof {
    pub fn new(key: &[u8], nonce: &str, pod_uid: &str, port: u16, revision: &str) -> Self {
        let mac = hmac(key, nonce, pod_uid, port, revision).finalize().into_bytes();
        Self {
            nonce: nonce.to_owned(),
            pod_uid: pod_uid.to_owned(),
            port,
            revision: revision.to_owned(),
            mac: URL_SAFE_NO_PAD.encode(mac),
        }
    }

    /// Whether a holder of `key` made this for that nonce, pod and port. The comparison takes constant time.
    pub fn verify(&self, key: &[u8], nonce: &str, pod_uid: &str, port: u16) -> bool {
        let Ok(mac) = URL_SAFE_NO_PAD.decode(&self.mac) else { return false };
        self.nonce == nonce
            && self.pod_uid == pod_uid
            && self.port == port
            && hmac(key, nonce, pod_uid, port, &self.revision).verify_slice(&mac).is_ok()
    }
}

/// Every field is length-prefixed: no two different sets of fields feed the MAC the same bytes.
fn hmac(key: &[u8], nonce: &str, pod_uid: &str, port: u16, revision: &str) -> Hmac<Sha256> {
    // HMAC takes keys of any length (RFC 2104 §2).
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { unreachable!("HMAC takes keys of any length") };
    for field in ["cloakroom proof v1", nonce, pod_uid, &port.to_string(), revision] {
        mac.update(&(field.len() as u64).to_be_bytes());
        mac.update(field.as_bytes());
    }
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_key_nonce_pod_and_port_verify() {
        let proof = Proof::new(b"key", "nonce", "pod", 8080, "rev");
        assert!(proof.verify(b"key", "nonce", "pod", 8080));
        assert!(!proof.verify(b"kez", "nonce", "pod", 8080));
        assert!(!proof.verify(b"key", "other", "pod", 8080));
        assert!(!proof.verify(b"key", "nonce", "other", 8080));
        assert!(!proof.verify(b"key", "nonce", "pod", 8081));
        let forged = Proof { revision: "rew".into(), ..proof };
        assert!(!forged.verify(b"key", "nonce", "pod", 8080));
    }

    #[test]
    fn shifting_a_byte_between_fields_changes_the_mac() {
        let one = Proof::new(b"key", "ab", "c", 1, "d");
        let other = Proof::new(b"key", "a", "bc", 1, "d");
        assert_ne!(one.mac, other.mac);
    }
}
