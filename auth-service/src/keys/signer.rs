//! One key that signs, and how others see it.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde_json::{Value, json};

use super::ring::KeyError;
use super::seal::Sealer;
use super::{Algorithm, StoredKey};

pub(super) struct Signer {
    pub(super) kid: String,
    key: SigningKey,
    /// Encoded headers: of access tokens (RFC 9068 §2.1) and of other JWTs.
    access_header: String,
    plain_header: String,
    logout_header: String,
    pub(super) jwk: Value,
}

enum SigningKey {
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JwtType {
    /// `at+jwt`
    AccessToken,
    /// `JWT`, an ID token.
    Plain,
    /// `logout+jwt` (OpenID Connect Back-Channel Logout §2.4)
    Logout,
}

impl JwtType {
    /// `typ` of the header.
    pub fn name(self) -> &'static str {
        match self {
            Self::AccessToken => "at+jwt",
            Self::Plain => "JWT",
            Self::Logout => "logout+jwt",
        }
    }
}

/// A new private key (PKCS #8).
pub(super) async fn generate(alg: Algorithm) -> Result<Vec<u8>, KeyError> {
    let made = match alg {
        Algorithm::ES256 => EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .map(|der| der.as_ref().to_vec()),
        Algorithm::EdDSA => Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map(|der| der.as_ref().to_vec()),
        // Primes take a while to find.
        Algorithm::RS256 => tokio::task::spawn_blocking(|| {
            let pair = RsaKeyPair::generate(KeySize::Rsa2048)?;
            let der: Pkcs8V1Der<'static> = pair.as_der()?;
            Ok(der.as_ref().to_vec())
        })
        .await
        .unwrap_or(Err(aws_lc_rs::error::Unspecified)),
    };
    made.map_err(|_| KeyError::Signing("no key could be made"))
}

/// What a sealed key is sealed for.
pub(super) fn purpose(kid: &str, alg: Algorithm) -> String {
    format!("signing key {kid} {alg:?}")
}

impl Signer {
    pub(super) fn open(sealer: &Sealer, stored: &StoredKey) -> Result<Self, KeyError> {
        let unusable = || KeyError::Unusable(stored.kid.clone());
        let pkcs8 = sealer.open(&purpose(&stored.kid, stored.alg), &stored.sealed)?;
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (key, mut jwk) = match stored.alg {
            Algorithm::ES256 => {
                let pair =
                    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8).map_err(|_| unusable())?;
                // Uncompressed point: 0x04, then x and y of 32 bytes each (SEC 1 §2.3.3).
                let point = pair.public_key().as_ref();
                let (x, y) = point.get(1..65).ok_or_else(unusable)?.split_at(32);
                let jwk = json!({"kty": "EC", "crv": "P-256", "x": text(x), "y": text(y)});
                (SigningKey::Ec(pair), jwk)
            }
            Algorithm::EdDSA => {
                let pair = Ed25519KeyPair::from_pkcs8(&pkcs8).map_err(|_| unusable())?;
                let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": text(pair.public_key().as_ref())});
                (SigningKey::Ed(pair), jwk)
            }
            Algorithm::RS256 => {
                let pair = RsaKeyPair::from_pkcs8(&pkcs8).map_err(|_| unusable())?;
                let public = pair.public_key();
                let (n, e) = (public.modulus(), public.exponent());
                let jwk = json!({
                    "kty": "RSA",
                    "n": text(n.big_endian_without_leading_zero()),
                    "e": text(e.big_endian_without_leading_zero()),
                });
                (SigningKey::Rsa(pair), jwk)
            }
        };
        let alg = stored.alg.name();
        if let Some(jwk) = jwk.as_object_mut() {
            jwk.extend([
                ("kid".to_owned(), Value::from(stored.kid.clone())),
                ("alg".to_owned(), Value::from(alg)),
                ("use".to_owned(), Value::from("sig")),
            ]);
        }
        let header =
            |typ: JwtType| text(json!({"alg": alg, "typ": typ.name(), "kid": stored.kid}).to_string().as_bytes());
        Ok(Self {
            kid: stored.kid.clone(),
            key,
            access_header: header(JwtType::AccessToken),
            plain_header: header(JwtType::Plain),
            logout_header: header(JwtType::Logout),
            jwk,
        })
    }

    pub(super) fn sign<T: Serialize>(&self, typ: JwtType, claims: &T) -> Result<String, KeyError> {
        let header = match typ {
            JwtType::AccessToken => &self.access_header,
            JwtType::Plain => &self.plain_header,
            JwtType::Logout => &self.logout_header,
        };
        let claims = serde_json::to_vec(claims).map_err(|_| KeyError::Signing("claims are not JSON"))?;
        let mut jwt = String::with_capacity(header.len() + claims.len() * 4 / 3 + 96);
        jwt.push_str(header);
        jwt.push('.');
        URL_SAFE_NO_PAD.encode_string(&claims, &mut jwt);
        let random = SystemRandom::new();
        let encoded = match &self.key {
            SigningKey::Ec(pair) => {
                let signature = pair.sign(&random, jwt.as_bytes()).map_err(|_| KeyError::Signing("ECDSA"))?;
                URL_SAFE_NO_PAD.encode(signature.as_ref())
            }
            SigningKey::Ed(pair) => URL_SAFE_NO_PAD.encode(pair.sign(jwt.as_bytes()).as_ref()),
            SigningKey::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, jwt.as_bytes(), &mut signature)
                    .map_err(|_| KeyError::Signing("RSA"))?;
                URL_SAFE_NO_PAD.encode(&signature)
            }
        };
        jwt.push('.');
        jwt.push_str(&encoded);
        Ok(jwt)
    }
}
