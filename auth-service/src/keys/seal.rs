//! AES-256-GCM for what must be kept but not be readable in Redis; the key comes from a file, its id is kept with the ciphertext.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::random::Random;

#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Sealed {
    /// Id of the encryption key.
    pub key: String,
    nonce: String,
    ciphertext: String,
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed(under {})", self.key)
    }
}

/// The encryption keys known to this process; the first one encrypts, all of them decrypt.
pub struct Sealer {
    keys: Vec<(String, LessSafeKey)>,
}

#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error("an encryption key is 32 bytes, raw or in base64 or hex")]
    InvalidKey,
    #[error("no encryption key is configured")]
    NoKey,
    #[error("sealed under key {0:?}, which is not configured here")]
    UnknownKey(String),
    #[error("the ciphertext was changed, or sealed for something else")]
    Broken,
}

impl Sealer {
    /// From the contents of key files, the current one first.
    pub fn new(files: &[Vec<u8>]) -> Result<Self, SealError> {
        let keys = files.iter().map(|file| parse_key(file)).collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() { Err(SealError::NoKey) } else { Ok(Self { keys }) }
    }

    /// Under which id new things are sealed.
    pub fn current(&self) -> &str {
        self.keys.first().map_or("", |(id, _)| id)
    }

    /// Whether something may be sealed under a key that is to go.
    pub fn has_older_keys(&self) -> bool {
        self.keys.len() > 1
    }

    /// `purpose` is authenticated with it: what was sealed for one purpose does not open for another.
    pub fn seal(&self, purpose: &str, plain: &[u8], random: &Random) -> Result<Sealed, SealError> {
        let (id, key) = self.keys.first().ok_or(SealError::NoKey)?;
        let nonce = random.bytes::<NONCE_LEN>();
        let mut text = plain.to_vec();
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(purpose.as_bytes()), &mut text)
            .map_err(|_| SealError::Broken)?;
        Ok(Sealed { key: id.clone(), nonce: URL_SAFE_NO_PAD.encode(nonce), ciphertext: URL_SAFE_NO_PAD.encode(text) })
    }

    pub fn open(&self, purpose: &str, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (_, key) = self
            .keys
            .iter()
            .find(|(id, _)| *id == sealed.key)
            .ok_or_else(|| SealError::UnknownKey(sealed.key.clone()))?;
        let nonce = URL_SAFE_NO_PAD.decode(&sealed.nonce).map_err(|_| SealError::Broken)?;
        let nonce = Nonce::try_assume_unique_for_key(&nonce).map_err(|_| SealError::Broken)?;
        let mut text = Zeroizing::new(URL_SAFE_NO_PAD.decode(&sealed.ciphertext).map_err(|_| SealError::Broken)?);
        let len =
            key.open_in_place(nonce, Aad::from(purpose.as_bytes()), &mut text).map_err(|_| SealError::Broken)?.len();
        text.truncate(len);
        Ok(text)
    }
}

/// The id is a digest of the key, so that nobody has to choose one, or forgets to change it.
fn parse_key(file: &[u8]) -> Result<(String, LessSafeKey), SealError> {
    let bytes = Zeroizing::new(key_bytes(file).ok_or(SealError::InvalidKey)?);
    let mut digest = Sha256::new();
    digest.update(b"cloakroom encryption key id\0");
    digest.update(&bytes);
    let id = URL_SAFE_NO_PAD.encode(&digest.finalize()[..9]);
    let key = UnboundKey::new(&AES_256_GCM, &bytes).map_err(|_| SealError::InvalidKey)?;
    Ok((id, LessSafeKey::new(key)))
}

fn key_bytes(file: &[u8]) -> Option<Vec<u8>> {
    if file.len() == 32 {
        return Some(file.to_vec());
    }
    let text = std::str::from_utf8(file).ok()?.trim();
    let decoded = if text.len() == 64 { decode_hex(text) } else { None };
    decoded
        .or_else(|| STANDARD.decode(text).ok())
        .or_else(|| URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok())
        .filter(|bytes| bytes.len() == 32)
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    text.as_bytes().chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(keys: &[u8]) -> Sealer {
        Sealer::new(&keys.iter().map(|byte| vec![*byte; 32]).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_only_with_its_key_and_for_its_purpose() {
        let random = Random::seeded(1);
        let sealed = sealer(&[1]).seal("signing key a", b"secret", &random).unwrap();
        assert_eq!(**sealer(&[1]).open("signing key a", &sealed).unwrap(), *b"secret");
        assert!(sealer(&[1]).open("signing key b", &sealed).is_err());
        assert!(matches!(sealer(&[2]).open("signing key a", &sealed), Err(SealError::UnknownKey(_))));
        assert!(!to_text(&sealed).contains("secret"));
    }

    #[test]
    fn an_older_key_still_opens_after_a_newer_one_was_put_first() {
        let random = Random::seeded(1);
        let sealed = sealer(&[1]).seal("p", b"x", &random).unwrap();
        let rotated = sealer(&[2, 1]);
        assert_eq!(**rotated.open("p", &sealed).unwrap(), *b"x");
        assert_ne!(rotated.seal("p", b"x", &random).unwrap().key, sealed.key);
    }

    #[test]
    fn a_changed_ciphertext_does_not_open() {
        let one = sealer(&[1]);
        let sealed = one.seal("p", b"secret", &Random::seeded(1)).unwrap();
        let first = if sealed.ciphertext.starts_with('A') { "B" } else { "A" };
        let changed = Sealed { ciphertext: format!("{first}{}", &sealed.ciphertext[1..]), ..sealed };
        assert!(matches!(one.open("p", &changed), Err(SealError::Broken)));
    }

    #[test]
    fn a_key_file_is_raw_base64_or_hex_and_nothing_shorter() {
        let raw = [7; 32];
        let id = |file: &[u8]| parse_key(file).map(|(id, _)| id).ok();
        let expected = id(&raw);
        assert!(expected.is_some());
        assert_eq!(id(format!("{}\n", STANDARD.encode(raw)).as_bytes()), expected);
        assert_eq!(id("07".repeat(32).as_bytes()), expected);
        for bad in [&b""[..], b"password", &[7; 16], &[7; 33], "zz".repeat(32).as_bytes()] {
            assert_eq!(id(bad), None);
        }
    }

    fn to_text(sealed: &Sealed) -> String {
        serde_json::to_string(sealed).unwrap()
    }
}
