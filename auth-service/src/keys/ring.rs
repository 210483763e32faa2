//! The signing keys in memory: loaded from the store, rotated by schedule or command, ready to sign without further IO.

use std::sync::Arc;

use arc_swap::ArcSwap;
use cloakroom_protocol::events::Event;
use cloakroom_protocol::token::TokenId;
use serde::Serialize;
use serde_json::json;

use super::seal::{SealError, Sealer};
use super::signer::{JwtType, Signer, generate, purpose};
use super::{Algorithm, Schedule, StoredKey, plan, signing};
use crate::clock::Clock;
use crate::random::Random;
use crate::store::{Entry, Key, Store, StoreError, Update, Updated, from_json, to_json};

/// Tries before leaving rotation to whoever else is at it.
const TRIES: usize = 5;

pub struct KeyRing {
    sealer: Sealer,
    /// Of everything that no client wants otherwise.
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

impl Held {
    /// By the key at this position.
    fn sign_by<T: Serialize>(&self, at: Option<usize>, typ: JwtType, claims: &T) -> Result<String, KeyError> {
        at.and_then(|at| self.signers.get(at)).ok_or(KeyError::NoKey)?.sign(typ, claims)
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
            let plan = plan(&keys, &self.kept(&keys), self.schedule, now);
            let stale = keys.iter().any(|key| key.sealed.key != self.sealer.current());
            if plan.make.is_empty() && plan.forget.is_empty() && !stale {
                return Ok(());
            }
            let mut at = 0;
            keys.retain(|_| (!plan.forget.contains(&at), at += 1).0);
            if stale {
                self.reseal(&mut keys)?;
            }
            for (alg, active_from) in plan.make {
                keys.push(self.make(alg, active_from, now).await?);
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
            let algorithms = self.kept(&keys);
            if emergency {
                keys.clear();
            }
            let active_from = if emergency { now } else { now + self.schedule.lead };
            for alg in algorithms {
                keys.push(self.make(alg, active_from, now).await?);
            }
            if self.write(store, version, &keys).await? {
                return Ok(());
            }
        }
        Err(contended())
    }

    /// Makes sure that something can be signed this way. Its first key signs at once: nobody has yet learned to do without.
    async fn provide(&self, store: &dyn Store, alg: Algorithm) -> Result<(), KeyError> {
        let now = self.clock.seconds();
        if signing(&self.held.load().stored, alg, now).is_some() {
            return Ok(());
        }
        for _ in 0..TRIES {
            let (version, mut keys) = read(store).await?;
            self.hold(version.clone(), &keys)?;
            if signing(&keys, alg, now).is_some() {
                return Ok(());
            }
            keys.push(self.make(alg, now, now).await?);
            if self.write(store, version, &keys).await? {
                return Ok(());
            }
        }
        Err(contended())
    }

    /// The algorithms that keys are to be there for.
    fn kept(&self, keys: &[StoredKey]) -> Vec<Algorithm> {
        let asked_for = keys.iter().any(|key| key.alg == Algorithm::RS256) && self.alg != Algorithm::RS256;
        [Some(self.alg), asked_for.then_some(Algorithm::RS256)].into_iter().flatten().collect()
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
        let of = |(at, key): (usize, &StoredKey)| {
            let stage = match signing(&held.stored, key.alg, now) {
                Some(one) if one == at && self.kept(&held.stored).contains(&key.alg) => Stage::Signing,
                _ if key.active_from > now => Stage::Published,
                _ => Stage::Retired,
            };
            (key.kid.clone(), key.alg.name(), stage, key.created, key.active_from)
        };
        held.stored.iter().enumerate().map(of).collect()
    }

    pub fn algorithm(&self) -> Algorithm {
        self.alg
    }

    /// What a client may choose from: RS256 is there for all (OpenID Connect Core §15.1).
    pub fn offered(&self) -> Vec<Algorithm> {
        let mut offered = vec![self.alg, Algorithm::RS256];
        offered.dedup();
        offered
    }

    /// What a client gets: after a change of the configuration, what it once chose may not be there any more.
    pub fn algorithm_for(&self, wanted: Option<Algorithm>) -> Algorithm {
        wanted.filter(|alg| self.offered().contains(alg)).unwrap_or(self.alg)
    }

    pub fn sign<T: Serialize>(&self, typ: JwtType, claims: &T) -> Result<String, KeyError> {
        let (held, now) = (self.held.load(), self.clock.seconds());
        // While a newly configured algorithm's first key is only published, the other one still signs.
        let other = || held.stored.iter().rposition(|key| key.active_from <= now);
        let at = signing(&held.stored, self.alg, now).or_else(other);
        held.sign_by(at, typ, claims)
    }

    /// For a client that wants it signed in this way, if that can be had; like everything else otherwise.
    pub async fn sign_as<T: Serialize>(
        &self,
        store: &dyn Store,
        wanted: Option<Algorithm>,
        typ: JwtType,
        claims: &T,
    ) -> Result<String, KeyError> {
        let alg = self.algorithm_for(wanted);
        if alg == self.alg {
            return self.sign(typ, claims);
        }
        self.provide(store, alg).await?;
        let held = self.held.load();
        let at = signing(&held.stored, alg, self.clock.seconds());
        held.sign_by(at, typ, claims)
    }

    async fn make(&self, alg: Algorithm, active_from: u64, now: u64) -> Result<StoredKey, KeyError> {
        let pkcs8 = generate(alg).await?;
        let kid = self.random.with(TokenId::generate).to_string();
        let sealed = self.sealer.seal(&purpose(&kid, alg), &pkcs8, &self.random)?;
        Ok(StoredKey { kid, alg, created: now, active_from, sealed })
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

fn contended() -> KeyError {
    KeyError::Store(StoreError::Unavailable("signing keys are being changed by others".to_owned()))
}

fn key() -> Key {
    Key::new("signing-keys", "keys")
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

    use serde_json::Value;

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
    async fn what_any_algorithm_signs_verifies_with_the_published_set() {
        for alg in [Algorithm::ES256, Algorithm::EdDSA, Algorithm::RS256] {
            let bench = Bench::new();
            let ring = bench.ring(alg, &[1]);
            ring.refresh(&bench.store).await.unwrap();
            let jwt = ring.sign(JwtType::AccessToken, &json!({"sub": "a"})).unwrap();
            assert!(verifies(&jwt, &jwks(&ring)), "{alg:?}");
            assert_eq!(decode_header(&jwt).unwrap().typ.as_deref(), Some("at+jwt"));
            let (body, _) = jwt.rsplit_once('.').unwrap();
            let of_zeros = "A".repeat(if alg == Algorithm::RS256 { 342 } else { 86 });
            assert!(!verifies(&format!("{body}.{of_zeros}"), &jwks(&ring)));
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
    async fn a_client_gets_what_it_can_read_and_its_key_is_rotated_too() {
        let bench = Bench::new();
        let (ring, other) = (bench.ring(Algorithm::ES256, &[1]), bench.ring(Algorithm::ES256, &[1]));
        ring.refresh(&bench.store).await.unwrap();
        other.refresh(&bench.store).await.unwrap();
        assert_eq!(jwks(&ring).keys.len(), 1, "made when it is wanted");
        let wanted = Some(Algorithm::RS256);
        let sign = async |ring: &KeyRing| ring.sign_as(&bench.store, wanted, JwtType::Plain, &json!({})).await.unwrap();
        let first = sign(&ring).await;
        assert_eq!(decode_header(&first).unwrap().alg, jsonwebtoken::Algorithm::RS256);
        let of_other = sign(&other).await;
        assert_eq!(decode_header(&of_other).unwrap().kid, decode_header(&first).unwrap().kid, "one for all replicas");
        assert!(verifies(&first, &jwks(&other)));
        let usual = ring.sign(JwtType::AccessToken, &json!({})).unwrap();
        assert_eq!(decode_header(&usual).unwrap().alg, jsonwebtoken::Algorithm::ES256);
        bench.pass(950);
        ring.refresh(&bench.store).await.unwrap();
        assert_eq!(jwks(&ring).keys.len(), 4);
        bench.pass(161);
        ring.refresh(&bench.store).await.unwrap();
        assert!(jwks(&ring).keys.len() == 2 && !verifies(&first, &jwks(&ring)) && !verifies(&usual, &jwks(&ring)));
        let last = sign(&ring).await;
        ring.rotate(&bench.store, true).await.unwrap();
        assert!(!verifies(&last, &jwks(&ring)) && verifies(&sign(&ring).await, &jwks(&ring)));
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
