//! Opaque tokens: `<kind>_<id><secret><checksum>`, base62, 74 ASCII characters.
//!
//! The id may be logged; the secret never is. The CRC-32 rejects junk before any IO; it protects nothing.

use std::fmt;
use std::str::FromStr;

use rand::{CryptoRng, RngExt};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroize;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

const PREFIX_LEN: usize = 3;
/// 22 base62 characters carry 130 bits.
const ID_LEN: usize = 22;
/// 43 base62 characters carry 256 bits.
pub(crate) const SECRET_LEN: usize = 43;
/// 6 base62 characters hold any CRC-32.
const CHECKSUM_LEN: usize = 6;
const SECRET_START: usize = PREFIX_LEN + ID_LEN;
const CHECKSUM_START: usize = SECRET_START + SECRET_LEN;

/// Length of every opaque token in characters.
pub const TOKEN_LEN: usize = CHECKSUM_START + CHECKSUM_LEN;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenKind {
    /// A browser's session at one policy, `cs_`.
    Session,
    /// An OAuth access token, `ca_`.
    Access,
    /// An OAuth refresh token, `cr_`.
    Refresh,
    /// An API key, `ck_`.
    ApiKey,
}

impl TokenKind {
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Session => "cs_",
            Self::Access => "ca_",
            Self::Refresh => "cr_",
            Self::ApiKey => "ck_",
        }
    }

    fn from_prefix(prefix: &[u8]) -> Option<Self> {
        match prefix {
            b"cs_" => Some(Self::Session),
            b"ca_" => Some(Self::Access),
            b"cr_" => Some(Self::Refresh),
            b"ck_" => Some(Self::ApiKey),
            _ => None,
        }
    }
}

/// The public part of a token: finds its record, may be logged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenId([u8; ID_LEN]);

impl TokenId {
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut id = [0; ID_LEN];
        fill_base62(&mut id, rng);
        Self(id)
    }

    /// Of something that has no id of its own: the same digest, the same id.
    pub fn of_digest(digest: &[u8; 32]) -> Self {
        Self(std::array::from_fn(|at| ALPHABET[usize::from(digest[at]) % ALPHABET.len()]))
    }

    pub fn as_str(&self) -> &str {
        ascii(&self.0)
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for TokenId {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes: [u8; ID_LEN] = text.as_bytes().try_into().map_err(|_| InvalidToken)?;
        if bytes.iter().all(u8::is_ascii_alphanumeric) { Ok(Self(bytes)) } else { Err(InvalidToken) }
    }
}

impl TryFrom<String> for TokenId {
    type Error = InvalidToken;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<TokenId> for String {
    fn from(id: TokenId) -> Self {
        id.as_str().to_owned()
    }
}

/// A well-formed opaque token. Well-formed says nothing about valid.
#[derive(Clone, PartialEq, Eq)]
pub struct OpaqueToken {
    kind: TokenKind,
    text: [u8; TOKEN_LEN],
}

/// Not one of our tokens: wrong length, prefix, alphabet or checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a well-formed token")]
pub struct InvalidToken;

impl OpaqueToken {
    /// A new token with an id of its own.
    pub fn generate(kind: TokenKind, rng: &mut impl CryptoRng) -> Self {
        let id = TokenId::generate(rng);
        Self::with_id(kind, id, rng)
    }

    /// A new secret for a known id: several tokens may name one record, each with a secret of its own.
    pub fn with_id(kind: TokenKind, id: TokenId, rng: &mut impl CryptoRng) -> Self {
        let mut text = [0; TOKEN_LEN];
        text[..PREFIX_LEN].copy_from_slice(kind.prefix().as_bytes());
        text[PREFIX_LEN..SECRET_START].copy_from_slice(&id.0);
        fill_base62(&mut text[SECRET_START..CHECKSUM_START], rng);
        let checksum = checksum(&text[..CHECKSUM_START]);
        text[CHECKSUM_START..].copy_from_slice(&checksum);
        Self { kind, text }
    }

    /// Whether this begins as tokens of ours do, well-formed or not.
    pub fn is_claimed_by(text: &[u8]) -> bool {
        text.get(..PREFIX_LEN).is_some_and(|prefix| TokenKind::from_prefix(prefix).is_some())
    }

    /// Checks form and checksum only; costs no IO and no allocation.
    pub fn parse(text: &[u8]) -> Result<Self, InvalidToken> {
        let text: [u8; TOKEN_LEN] = text.try_into().map_err(|_| InvalidToken)?;
        let kind = TokenKind::from_prefix(&text[..PREFIX_LEN]).ok_or(InvalidToken)?;
        if !text[PREFIX_LEN..].iter().all(u8::is_ascii_alphanumeric) {
            return Err(InvalidToken);
        }
        if checksum(&text[..CHECKSUM_START]) != text[CHECKSUM_START..] {
            return Err(InvalidToken);
        }
        Ok(Self { kind, text })
    }

    pub fn kind(&self) -> TokenKind {
        self.kind
    }

    pub fn id(&self) -> TokenId {
        let mut id = [0; ID_LEN];
        id.copy_from_slice(&self.text[PREFIX_LEN..SECRET_START]);
        TokenId(id)
    }

    /// What a record keeps instead of the secret.
    pub fn secret_hash(&self) -> SecretHash {
        SecretHash(Sha256::digest(&self.text[SECRET_START..CHECKSUM_START]).into())
    }

    /// Names this very token (kind, id and secret) in a cache without holding it.
    pub fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(self.text).into()
    }

    /// The token itself, for the one place that hands it out or sends it on.
    pub fn expose(&self) -> &str {
        ascii(&self.text)
    }
}

impl FromStr for OpaqueToken {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text.as_bytes())
    }
}

impl fmt::Debug for OpaqueToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpaqueToken({}{}…)", self.kind.prefix(), self.id())
    }
}

impl Drop for OpaqueToken {
    fn drop(&mut self) {
        self.text.zeroize();
    }
}

/// SHA-256 of a token's secret; compared in constant time.
#[derive(Clone, Copy)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for SecretHash {
    fn eq(&self, other: &Self) -> bool {
        subtle::ConstantTimeEq::ct_eq(&self.0[..], &other.0[..]).into()
    }
}

impl Eq for SecretHash {}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(…)")
    }
}

pub(crate) fn fill_base62(target: &mut [u8], rng: &mut impl CryptoRng) {
    target.fill_with(|| ALPHABET[rng.random_range(0..ALPHABET.len())]);
}

fn checksum(text: &[u8]) -> [u8; CHECKSUM_LEN] {
    let mut rest = crc32fast::hash(text) as usize;
    let mut out = [0; CHECKSUM_LEN];
    for digit in out.iter_mut().rev() {
        *digit = ALPHABET[rest % ALPHABET.len()];
        rest /= ALPHABET.len();
    }
    out
}

/// Both callers hold bytes checked to be ASCII.
fn ascii(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn token(kind: TokenKind) -> OpaqueToken {
        OpaqueToken::generate(kind, &mut StdRng::seed_from_u64(7))
    }

    #[test]
    fn a_token_survives_a_round_trip() {
        for kind in [TokenKind::Session, TokenKind::Access, TokenKind::Refresh, TokenKind::ApiKey] {
            let token = token(kind);
            let parsed: OpaqueToken = token.expose().parse().unwrap();
            assert_eq!(parsed, token);
            assert_eq!(parsed.kind(), kind);
            assert_eq!(parsed.id().to_string().parse::<TokenId>().unwrap(), token.id());
        }
    }

    #[test]
    fn every_changed_character_is_rejected_without_a_look_up() {
        let good = token(TokenKind::Session).expose().to_owned();
        for at in 0..good.len() {
            let mut bad = good.clone().into_bytes();
            bad[at] = if bad[at] == b'x' { b'y' } else { b'x' };
            assert_eq!(OpaqueToken::parse(&bad), Err(InvalidToken), "changed at {at}");
        }
        assert!(OpaqueToken::parse(&good.as_bytes()[1..]).is_err());
        assert!(OpaqueToken::parse(format!("{good}0").as_bytes()).is_err());
        assert!(OpaqueToken::parse(b"").is_err());
    }

    #[test]
    fn debug_shows_the_id_and_never_the_secret() {
        let token = token(TokenKind::Access);
        let shown = format!("{token:?} {:?}", token.secret_hash());
        assert!(shown.contains(token.id().as_str()));
        assert!(!shown.contains(&token.expose()[SECRET_START..SECRET_START + 8]));
    }

    #[test]
    fn two_tokens_of_one_record_share_the_id_and_nothing_else() {
        let mut rng = StdRng::seed_from_u64(1);
        let first = OpaqueToken::generate(TokenKind::Session, &mut rng);
        let second = OpaqueToken::with_id(TokenKind::Session, first.id(), &mut rng);
        assert_eq!(first.id(), second.id());
        assert_ne!(first.secret_hash(), second.secret_hash());
        assert_ne!(first.fingerprint(), second.fingerprint());
    }
}
