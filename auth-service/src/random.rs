//! Randomness as an argument, and the one text form in which this service hands it out.

use std::sync::{Arc, Mutex, PoisonError};

use rand::rngs::{StdRng, SysRng};
use rand::{CryptoRng, RngExt, SeedableRng};

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// 43 base62 characters carry 256 bits.
pub const SECRET_LEN: usize = 43;

/// The service's source of randomness; seeded by the operating system, or by a test.
#[derive(Clone)]
pub struct Random(Arc<Mutex<StdRng>>);

#[derive(Debug, thiserror::Error)]
#[error("the operating system gives no randomness: {0}")]
pub struct NoEntropy(String);

impl Random {
    pub fn system() -> Result<Self, NoEntropy> {
        let rng = StdRng::try_from_rng(&mut SysRng).map_err(|error| NoEntropy(error.to_string()))?;
        Ok(Self(Arc::new(Mutex::new(rng))))
    }

    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    pub fn with<T>(&self, take: impl FnOnce(&mut StdRng) -> T) -> T {
        take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// 256 bits as 43 base62 characters.
    pub fn secret(&self) -> String {
        self.with(|rng| base62(SECRET_LEN, rng))
    }

    /// A short id to quote: 60 bits, no secret.
    pub fn reference(&self) -> String {
        self.with(|rng| base62(10, rng))
    }

    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        self.with(|rng| {
            let mut bytes = [0; N];
            rand::Rng::fill_bytes(rng, &mut bytes);
            bytes
        })
    }
}

fn base62(len: usize, rng: &mut impl CryptoRng) -> String {
    (0..len).map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())])).collect()
}
