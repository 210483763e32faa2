//! What a client presents: a token of ours or, where a policy takes them, one of another issuer's.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::token::{InvalidToken, OpaqueToken, TokenId, TokenKind};

/// Bytes of the longest token of another issuer's: a JWT with a few hundred groups, and half of what many servers take as a head.
pub const MAX_FOREIGN: usize = 8 << 10;
/// Shorter ones could be guessed.
const MIN_FOREIGN: usize = 16;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presented {
    Ours(OpaqueToken),
    Foreign(ForeignToken),
}

/// What an active token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Kind {
    Ours(TokenKind),
    Foreign(Foreign),
}

/// Its only value, so that it has a name in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Foreign {
    Foreign,
}

/// Another issuer's access token. Only that issuer knows what it says; here it is characters that a header can carry.
#[derive(Clone, PartialEq, Eq)]
pub struct ForeignToken(Arc<Zeroizing<String>>);

impl Presented {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Ours(token) => Kind::Ours(token.kind()),
            Self::Foreign(_) => Kind::FOREIGN,
        }
    }

    /// May be logged.
    pub fn id(&self) -> TokenId {
        match self {
            Self::Ours(token) => token.id(),
            Self::Foreign(token) => token.id(),
        }
    }

    /// Names this very token in a cache without holding it.
    pub fn fingerprint(&self) -> [u8; 32] {
        match self {
            Self::Ours(token) => token.fingerprint(),
            Self::Foreign(token) => token.fingerprint(),
        }
    }

    /// The token itself, for the one place that sends it on.
    pub fn expose(&self) -> &str {
        match self {
            Self::Ours(token) => token.expose(),
            Self::Foreign(token) => token.expose(),
        }
    }

    pub fn ours(&self) -> Option<&OpaqueToken> {
        match self {
            Self::Ours(token) => Some(token),
            Self::Foreign(_) => None,
        }
    }
}

impl From<OpaqueToken> for Presented {
    fn from(token: OpaqueToken) -> Self {
        Self::Ours(token)
    }
}

impl From<ForeignToken> for Presented {
    fn from(token: ForeignToken) -> Self {
        Self::Foreign(token)
    }
}

impl Kind {
    pub const FOREIGN: Self = Self::Foreign(Foreign::Foreign);
}

impl From<TokenKind> for Kind {
    fn from(kind: TokenKind) -> Self {
        Self::Ours(kind)
    }
}

impl PartialEq<TokenKind> for Kind {
    fn eq(&self, other: &TokenKind) -> bool {
        *self == Self::Ours(*other)
    }
}

impl ForeignToken {
    /// Bounded, and of the characters that a bearer token may have (RFC 6750 §2.1). What begins as our own tokens do is one of ours or
    /// nothing: a mistyped token of ours is not for anybody else to see.
    pub fn parse(text: &[u8]) -> Result<Self, InvalidToken> {
        let padding = text.iter().rev().take_while(|b| **b == b'=').count();
        let body = &text[..text.len() - padding];
        let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-._~+/".contains(b);
        if !(MIN_FOREIGN..=MAX_FOREIGN).contains(&text.len())
            || padding > 2
            || !body.iter().all(plain)
            || OpaqueToken::is_claimed_by(text)
        {
            return Err(InvalidToken);
        }
        let text = std::str::from_utf8(text).map_err(|_| InvalidToken)?;
        Ok(Self(Arc::new(Zeroizing::new(text.to_owned()))))
    }

    /// Made of its digest, and not of the one that names it in caches: what is logged must not be a part of that.
    pub fn id(&self) -> TokenId {
        let digest = Sha256::new().chain_update(b"cloakroom foreign token id\0").chain_update(self.expose());
        TokenId::of_digest(&digest.finalize().into())
    }

    pub fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(self.expose()).into()
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ForeignToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ForeignToken({}…)", self.id())
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    const JWT: &str = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl";

    #[test]
    fn what_a_bearer_token_may_be_is_taken_and_nothing_else() {
        let long = "a".repeat(MAX_FOREIGN);
        for good in [JWT, "ory_at_0123456789-_~+/", "AAAAAAAAAAAAAAAA==", &long] {
            assert_eq!(ForeignToken::parse(good.as_bytes()).unwrap().expose(), good);
        }
        let huge = "a".repeat(MAX_FOREIGN + 1);
        for bad in [
            "",
            "short",
            &huge,
            "with a space inside it",
            "line\r\nbreak-in-the-middle",
            "comma,comma,comma,comma",
            "quote\"quote\"quote\"",
            "AAAAAAAAAAAAA===",
            "AAAAAAAA==AAAAAAAA",
            "zo\u{eb}-zo\u{eb}-zo\u{eb}-zo\u{eb}",
            "================",
        ] {
            assert!(ForeignToken::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_begins_as_a_token_of_ours_is_never_taken_for_anothers() {
        let ours = OpaqueToken::generate(TokenKind::Access, &mut StdRng::seed_from_u64(1));
        let cut = &ours.expose()[..60];
        let longer = format!("{}x", ours.expose());
        for text in [ours.expose(), cut, &longer, "cs_0123456789abcdef", "ck_0123456789abcdef", "cr_0123456789abcdef"] {
            assert!(ForeignToken::parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(OpaqueToken::parse(JWT.as_bytes()).is_err());
    }

    #[test]
    fn debug_shows_an_id_that_is_no_part_of_the_token_or_its_fingerprint() {
        let token = ForeignToken::parse(JWT.as_bytes()).unwrap();
        let shown = format!("{:?}", Presented::Foreign(token.clone()));
        assert!(shown.contains(token.id().as_str()));
        assert!(!shown.contains(&JWT[..10]) && !shown.contains(&JWT[40..]));
        assert_ne!(token.id(), TokenId::of_digest(&token.fingerprint()));
        assert_eq!(token.id().as_str().parse::<TokenId>().unwrap(), token.id());
    }

    #[test]
    fn kinds_have_names() {
        for (kind, name) in [(Kind::FOREIGN, "\"foreign\""), (TokenKind::ApiKey.into(), "\"api_key\"")] {
            assert_eq!(serde_json::to_string(&kind).unwrap(), name);
            assert_eq!(serde_json::from_str::<Kind>(name).unwrap(), kind);
        }
        assert!(serde_json::from_str::<Kind>("\"other\"").is_err());
        assert!(Kind::from(TokenKind::Session) == TokenKind::Session && Kind::FOREIGN != TokenKind::Session);
    }
}
