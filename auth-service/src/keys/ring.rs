//! The signing keys in memory: loaded from the store, rotated by schedule or command, ready to sign without further IO.

use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cloakroom_protocol::events::Event;
use cloakroom_protocol::token::TokenId;
use serde::Serialize;
use serde_json::{Value, json};

use super::seal::{SealError, Sealer};
use super::{Algorithm, Schedule, StoredKey, plan, signing};
use crate::clock::Clock;
use crate::random::Random;
use crate::store::{Entry, Key, Store, StoreError, Update, Updated, from_json, to_json};

/// Tries before leaving rotation to whoever else is at it.
const TRIES: usize = 5;

pub struct KeyRing {
    sealer: Sealer,
    alg: Algorithm,
    schedule: Schedule,
    clock: Clock,
    random: Random,
    held: ArcSwap<Held>,
}

#[derive(Default)]
struct Held {
    version: Option<String>,
    stored: Vec<StoredKey>,
    signers: Vec<Arc<Signer>>,
    jwks: Arc<str>,
}

struct Signer {
    kid: String,
    key: SigningKey,
    /// Encoded headers: of access tokens (RFC 9068 §2.1) and of other JWTs.
    access_header: String,
    plain_header: String,
    logout_header: String,
    jwk: Value,
}

enum SigningKey {
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
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

/// Where a key is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Known to those who verify; signs soon.
    Published,
    Signing,
    /// What it signed may still be alive.
    Retired,
}

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("no signing key yet: the store has not answered since start")]
    NoKey,
    #[error("signing key {0:?} is not usable")]
    Unusable(String),
    #[error("signing: {0}")]
    Signing(&'static str),
    #[error("signing keys at rest: {0}")]
    Seal(#[from] SealError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl KeyRing {
    pub fn new(sealer: Sealer, alg: Algorithm, schedule: Schedule, clock: Clock, random: Random) -> Self {
        Self { sealer, alg, schedule, clock, random, held: ArcSwap::default() }
    }

    /// Loads what the store has, and rotates if it is time to.
    pub async fn refresh(&self, store: &dyn Store) -> Result<(), KeyError> {
        for _ in 0..TRIES {
            let (version, mut keys) = read(store).await?;
            self.hold(version.clone(), &keys)?;
            let now = self.clock.seconds();
            let plan = plan(&keys, self.alg, self.schedule, now);
            let stale = keys.iter().any(|key| key.sealed.key != self.sealer.current());
            if plan.make.is_none() && plan.forget.is_empty() && !stale {
                return Ok(());
            }
            let mut at = 0;
            keys.retain(|_| (!plan.forget.contains(&at), at += 1).0);
            if stale {
                self.reseal(&mut keys)?;
            }
            if let Some(active_from) = plan.make {
                keys.push(self.make(active_from, now)?);
            }
            if self.write(store, version, &keys).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Rotates by command. In an emergency the old keys are forgotten at once, and what they signed is refused.
    pub async fn rotate(&self, store: &dyn Store, emergency: bool) -> Result<(), KeyError> {
        for _ in 0..TRIES {
            let (version, mut keys) = read(store).await?;
            let now = self.clock.seconds();
            if emergency {
                keys.clear();
            }
            let active_from = if emergency { now } else { now + self.schedule.lead };
            keys.push(self.make(active_from, now)?);
            if self.write(store, version, &keys).await? {
                return Ok(());
            }
        }
        Err(KeyError::Store(StoreError::Unavailable("signing keys are being changed by others".to_owned())))
    }

    /// What encrypts at rest, for others who keep secrets.
    pub fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    pub fn is_loaded(&self) -> bool {
        !self.held.load().signers.is_empty()
    }

    /// RFC 7517 set of every key that is published.
    pub fn jwks(&self) -> Result<Arc<str>, KeyError> {
        let held = self.held.load();
        if held.signers.is_empty() { Err(KeyError::NoKey) } else { Ok(Arc::clone(&held.jwks)) }
    }

    /// Key id, algorithm, stage, when it was made and since when it signs, of every published key.
    pub fn published(&self) -> Vec<(String, &'static str, Stage, u64, u64)> {
        let (held, now) = (self.held.load(), self.clock.seconds());
        let signs = signing(&held.stored, self.alg, now);
        let of = |(at, key): (usize, &StoredKey)| {
            let stage = match signs {
                Some(one) if one == at => Stage::Signing,
                _ if key.active_from > now => Stage::Published,
                _ => Stage::Retired,
            };
            let alg = match key.alg {
                Algorithm::ES256 => "ES256",
                Algorithm::EdDSA => "EdDSA",
            };
            (key.kid.clone(), alg, stage, key.created, key.active_from)
        };
        held.stored.iter().enumerate().map(of).collect()
    }

    pub fn algorithm(&self) -> Algorithm {
        self.alg
    }

    pub fn sign<T: Serialize>(&self, typ: JwtType, claims: &T) -> Result<String, KeyError> {
        let held = self.held.load();
        let at = signing(&held.stored, self.alg, self.clock.seconds());
        // While a newly configured algorithm's first key is only published, the other one still signs.
        let at = at.or_else(|| held.stored.iter().rposition(|key| key.active_from <= self.clock.seconds()));
        let signer = at.and_then(|at| held.signers.get(at)).ok_or(KeyError::NoKey)?;
        signer.sign(typ, claims)
    }

    fn make(&self, active_from: u64, now: u64) -> Result<StoredKey, KeyError> {
        let pkcs8 = match self.alg {
            Algorithm::ES256 => EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()),
            Algorithm::EdDSA => Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()),
        };
        let pkcs8 = pkcs8.map_err(|_| KeyError::Signing("no key could be made"))?;
        let kid = self.random.with(TokenId::generate).to_string();
        let sealed = self.sealer.seal(&purpose(&kid, self.alg), pkcs8.as_ref(), &self.random)?;
        Ok(StoredKey { kid, alg: self.alg, created: now, active_from, sealed })
    }

    /// The encryption key was changed: whatever is sealed under an older one is sealed anew.
    fn reseal(&self, keys: &mut [StoredKey]) -> Result<(), KeyError> {
        for key in keys {
            let purpose = purpose(&key.kid, key.alg);
            let plain = self.sealer.open(&purpose, &key.sealed)?;
            key.sealed = self.sealer.seal(&purpose, &plain, &self.random)?;
        }
        Ok(())
    }

    async fn write(&self, store: &dyn Store, version: Option<String>, keys: &[StoredKey]) -> Result<bool, KeyError> {
        // Random and not counted: after a loss of the store, the same number would name other keys.
        let next = self.random.reference();
        let update = Update {
            require: vec![("version".to_owned(), version)],
            set: vec![("version".to_owned(), next.clone()), ("keys".to_owned(), to_json(&keys))],
            ..Update::default()
        };
        if store.upsert(&key(), update).await? != Updated::Yes {
            return Ok(false);
        }
        self.hold(Some(next), keys)?;
        store.publish(&Entry { name: Event::Keys.name().to_owned(), data: Event::Keys.data() }).await?;
        Ok(true)
    }

    fn hold(&self, version: Option<String>, keys: &[StoredKey]) -> Result<(), KeyError> {
        let held = self.held.load();
        if version.is_some() && held.version == version {
            return Ok(());
        }
        let signers = keys
            .iter()
            .map(|key| match held.signers.iter().find(|signer| signer.kid == key.kid) {
                Some(signer) => Ok(Arc::clone(signer)),
                None => Signer::open(&self.sealer, key).map(Arc::new),
            })
            .collect::<Result<Vec<_>, KeyError>>()?;
        let jwks = json!({ "keys": signers.iter().map(|signer| &signer.jwk).collect::<Vec<_>>() }).to_string();
        self.held.store(Arc::new(Held { version, stored: keys.to_vec(), signers, jwks: jwks.into() }));
        Ok(())
    }
}

impl Signer {
    fn open(sealer: &Sealer, stored: &StoredKey) -> Result<Self, KeyError> {
        let unusable = || KeyError::Unusable(stored.kid.clone());
        let pkcs8 = sealer.open(&purpose(&stored.kid, stored.alg), &stored.sealed)?;
        let (key, alg, mut jwk) = match stored.alg {
            Algorithm::ES256 => {
                let pair =
                    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8).map_err(|_| unusable())?;
                // Uncompressed point: 0x04, then x and y of 32 bytes each (SEC 1 §2.3.3).
                let point = pair.public_key().as_ref();
                let (x, y) = point.get(1..65).ok_or_else(unusable)?.split_at(32);
                let jwk = json!({"kty": "EC", "crv": "P-256", "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)});
                (SigningKey::Ec(pair), "ES256", jwk)
            }
            Algorithm::EdDSA => {
                let pair = Ed25519KeyPair::from_pkcs8(&pkcs8).map_err(|_| unusable())?;
                let jwk =
                    json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(pair.public_key().as_ref())});
                (SigningKey::Ed(pair), "EdDSA", jwk)
            }
        };
        if let Some(jwk) = jwk.as_object_mut() {
            jwk.extend([
                ("kid".to_owned(), Value::from(stored.kid.clone())),
                ("alg".to_owned(), Value::from(alg)),
                ("use".to_owned(), Value::from("sig")),
            ]);
        }
        let header = |typ: JwtType| {
            URL_SAFE_NO_PAD.encode(json!({"alg": alg, "typ": typ.name(), "kid": stored.kid}).to_string())
        };
        Ok(Self {
            kid: stored.kid.clone(),
            key,
            access_header: header(JwtType::AccessToken),
            plain_header: header(JwtType::Plain),
            logout_header: header(JwtType::Logout),
            jwk,
        })
    }

    fn sign<T: Serialize>(&self, typ: JwtType, claims: &T) -> Result<String, KeyError> {
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
        let signature = match &self.key {
            SigningKey::Ec(pair) => {
                pair.sign(&SystemRandom::new(), jwt.as_bytes()).map_err(|_| KeyError::Signing("ECDSA"))?
            }
            SigningKey::Ed(pair) => pair.sign(jwt.as_bytes()),
        };
        jwt.push('.');
        URL_SAFE_NO_PAD.encode_string(signature.as_ref(), &mut jwt);
        Ok(jwt)
    }
}

fn key() -> Key {
    Key::new("signing-keys", "keys")
}

fn purpose(kid: &str, alg: Algorithm) -> String {
    format!("signing key {kid} {alg:?}")
}

async fn read(store: &dyn Store) -> Result<(Option<String>, Vec<StoredKey>), StoreError> {
    let mut fields = store.read_all(&key()).await?.unwrap_or_default();
    let keys = fields.get("keys").map_or(Ok(Vec::new()), |json| from_json("signing keys", json))?;
    Ok((fields.remove("version"), keys))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use jsonwebtoken::jwk::JwkSet;
    use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};

    use super::*;
    use crate::store::memory::MemoryStore;

    struct Bench {
        now: Arc<AtomicU64>,
        store: MemoryStore,
    }

    impl Bench {
        fn new() -> Self {
            let now = Arc::new(AtomicU64::new(1_000_000));
            let store = MemoryStore::new(clock(&now));
            Self { now, store }
        }

        fn ring(&self, alg: Algorithm, sealing: &[u8]) -> KeyRing {
            let sealer = Sealer::new(&sealing.iter().map(|byte| vec![*byte; 32]).collect::<Vec<_>>()).unwrap();
            let schedule = Schedule { rotation: 1000, lead: 100, keep: 60 };
            KeyRing::new(sealer, alg, schedule, clock(&self.now), Random::seeded(u64::from(sealing[0])))
        }

        fn pass(&self, seconds: u64) {
            self.now.fetch_add(seconds, Ordering::Relaxed);
        }
    }

    fn clock(now: &Arc<AtomicU64>) -> Clock {
        let now = Arc::clone(now);
        Clock::new(move || std::time::Duration::from_secs(now.load(Ordering::Relaxed)))
    }

    fn jwks(ring: &KeyRing) -> JwkSet {
        serde_json::from_str(&ring.jwks().unwrap()).unwrap()
    }

    fn verifies(jwt: &str, keys: &JwkSet) -> bool {
        let header = decode_header(jwt).unwrap();
        let Some(jwk) = keys.find(header.kid.as_deref().unwrap()) else { return false };
        let mut validation = Validation::new(header.alg);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        decode::<Value>(jwt, &DecodingKey::from_jwk(jwk).unwrap(), &validation).is_ok()
    }

    #[tokio::test]
    async fn what_either_algorithm_signs_verifies_with_the_published_set() {
        for alg in [Algorithm::ES256, Algorithm::EdDSA] {
            let bench = Bench::new();
            let ring = bench.ring(alg, &[1]);
            ring.refresh(&bench.store).await.unwrap();
            let jwt = ring.sign(JwtType::AccessToken, &json!({"sub": "a"})).unwrap();
            assert!(verifies(&jwt, &jwks(&ring)), "{alg:?}");
            assert_eq!(decode_header(&jwt).unwrap().typ.as_deref(), Some("at+jwt"));
            let (body, _) = jwt.rsplit_once('.').unwrap();
            assert!(!verifies(&format!("{body}.{}", "A".repeat(86)), &jwks(&ring)));
        }
    }

    #[tokio::test]
    async fn two_replicas_share_one_key_and_one_rotation() {
        let bench = Bench::new();
        let (one, other) = (bench.ring(Algorithm::ES256, &[1]), bench.ring(Algorithm::ES256, &[1]));
        tokio::try_join!(one.refresh(&bench.store), other.refresh(&bench.store)).unwrap();
        other.refresh(&bench.store).await.unwrap();
        assert_eq!(jwks(&one), jwks(&other));
        bench.pass(950);
        one.refresh(&bench.store).await.unwrap();
        other.refresh(&bench.store).await.unwrap();
        assert_eq!(jwks(&other).keys.len(), 2, "published before its first use");
        let before = one.sign(JwtType::Plain, &json!({})).unwrap();
        bench.pass(150);
        let after = one.sign(JwtType::Plain, &json!({})).unwrap();
        assert_ne!(decode_header(&before).unwrap().kid, decode_header(&after).unwrap().kid);
        one.refresh(&bench.store).await.unwrap();
        assert!(verifies(&before, &jwks(&one)) && verifies(&after, &jwks(&other)));
        bench.pass(61);
        one.refresh(&bench.store).await.unwrap();
        assert!(!verifies(&before, &jwks(&one)), "forgotten once nothing it signed can be valid");
    }

    #[tokio::test]
    async fn an_emergency_rotation_forgets_the_old_key_at_once() {
        let bench = Bench::new();
        let ring = bench.ring(Algorithm::ES256, &[1]);
        ring.refresh(&bench.store).await.unwrap();
        let before = ring.sign(JwtType::Plain, &json!({})).unwrap();
        ring.rotate(&bench.store, true).await.unwrap();
        assert!(!verifies(&before, &jwks(&ring)));
        assert!(verifies(&ring.sign(JwtType::Plain, &json!({})).unwrap(), &jwks(&ring)));
    }

    #[tokio::test]
    async fn keys_are_sealed_anew_when_the_encryption_key_changes() {
        let bench = Bench::new();
        let first = bench.ring(Algorithm::ES256, &[1]);
        first.refresh(&bench.store).await.unwrap();
        let jwt = first.sign(JwtType::Plain, &json!({})).unwrap();
        let second = bench.ring(Algorithm::ES256, &[2, 1]);
        second.refresh(&bench.store).await.unwrap();
        let third = bench.ring(Algorithm::ES256, &[2]);
        third.refresh(&bench.store).await.unwrap();
        assert!(verifies(&jwt, &jwks(&third)), "the old encryption key is no longer needed");
        let stranger = bench.ring(Algorithm::ES256, &[3]);
        assert!(
            matches!(stranger.refresh(&bench.store).await, Err(KeyError::Seal(_))),
            "and no new key is made over it"
        );
    }

    #[tokio::test]
    async fn without_a_key_nothing_is_signed() {
        let bench = Bench::new();
        let ring = bench.ring(Algorithm::ES256, &[1]);
        assert!(matches!(ring.sign(JwtType::Plain, &json!({})), Err(KeyError::NoKey)));
        assert!(ring.jwks().is_err());
    }
}
