//! An OAuth client's secret: 256 random bits in base62, which no header or form has to escape.

use std::fmt;

use rand::CryptoRng;
use sha2::{Digest, Sha256};
use zeroize::Zeroize;

use crate::token::{SECRET_LEN, SecretHash, fill_base62};

#[derive(Clone, PartialEq, Eq)]
pub struct ClientSecret(String);

impl ClientSecret {
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut text = [0; SECRET_LEN];
        fill_base62(&mut text, rng);
        Self(text.iter().copied().map(char::from).collect())
    }

    /// `None`: it is none of ours.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let ours = text.len() == SECRET_LEN && text.iter().all(u8::is_ascii_alphanumeric);
        ours.then(|| Self(text.iter().copied().map(char::from).collect()))
    }

    /// What the auth service keeps instead of it.
    pub fn hash(&self) -> SecretHash {
        SecretHash::from_bytes(Sha256::digest(&self.0).into())
    }

    /// The secret itself, for the one place that hands it out.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientSecret(…)")
    }
}

impl Drop for ClientSecret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn it_is_read_as_it_was_made_and_does_not_show() {
        let secret = ClientSecret::generate(&mut StdRng::seed_from_u64(1));
        assert_eq!(ClientSecret::parse(secret.expose().as_bytes()), Some(secret.clone()));
        assert!(!format!("{secret:?}").contains(secret.expose()));
        for bad in ["", "short", &format!("{}x", secret.expose()), &secret.expose().replace(|_: char| true, "-")] {
            assert_eq!(ClientSecret::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
