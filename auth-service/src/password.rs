//! Passwords: argon2id, off the event loop, a bounded number at once.

use std::sync::Arc;
use std::time::Duration;

use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;
use zxcvbn::feedback::Feedback;

use crate::config::Passwords;
use crate::random::Random;
use crate::record::user::PasswordHash;

/// Longer ones are refused before they cost anything.
pub const MAX_LENGTH: usize = 256;

/// Who waits longer for a free worker is told to try again.
const QUEUE: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub struct PasswordPool {
    argon2: Argon2<'static>,
    workers: Arc<Semaphore>,
    random: Random,
    /// Verified where there is no user, so that absence costs what presence costs.
    decoy: Arc<PasswordHash>,
    min_length: usize,
}

/// Of a password that is easy to guess.
pub struct Weakness {
    pub why: Option<Feedback>,
}

#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    #[error("a password has {0} to {MAX_LENGTH} characters")]
    Length(usize),
    #[error("argon2 parameters: {0}")]
    Parameters(String),
    #[error("too many passwords to check at once")]
    Busy,
    #[error("hashing: {0}")]
    Hashing(String),
}

impl PasswordPool {
    pub fn new(config: &Passwords, random: Random) -> Result<Self, PasswordError> {
        let params = Params::new(config.memory_kib, config.iterations, config.parallelism, None)
            .map_err(|error| PasswordError::Parameters(error.to_string()))?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let decoy = hash(&argon2, "nobody has this password", &random)?;
        Ok(Self {
            argon2,
            workers: Arc::new(Semaphore::new(config.workers.max(1))),
            random,
            decoy: Arc::new(decoy),
            min_length: config.min_length,
        })
    }

    pub async fn hash(&self, password: Zeroizing<String>) -> Result<PasswordHash, PasswordError> {
        let length = password.chars().count();
        if length < self.min_length || password.len() > MAX_LENGTH {
            return Err(PasswordError::Length(self.min_length));
        }
        let (argon2, random) = (self.argon2.clone(), self.random.clone());
        self.run(move || hash(&argon2, &password, &random)).await?
    }

    /// What makes a password easy to guess; `None`: it is not. `about` are words that an attacker tries first.
    pub async fn advise(
        &self,
        password: Zeroizing<String>,
        about: Vec<String>,
    ) -> Result<Option<Weakness>, PasswordError> {
        if password.chars().count() < self.min_length || password.len() > MAX_LENGTH {
            return Err(PasswordError::Length(self.min_length));
        }
        self.run(move || weakness(&password, &about)).await
    }

    /// Whether the password is the one of `expected`; without one it takes as long and is `false`.
    pub async fn verify(
        &self,
        password: Zeroizing<String>,
        expected: Option<PasswordHash>,
    ) -> Result<bool, PasswordError> {
        if password.len() > MAX_LENGTH {
            return Ok(false);
        }
        let (argon2, decoy) = (self.argon2.clone(), Arc::clone(&self.decoy));
        self.run(move || {
            let known = expected.is_some();
            let against = expected.as_ref().unwrap_or(&decoy);
            let right = argon2.verify_password(password.as_bytes(), against.0.as_str()).is_ok();
            right && known
        })
        .await
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, PasswordError> {
        let acquire = Arc::clone(&self.workers).acquire_owned();
        let permit = tokio::time::timeout(QUEUE, acquire).await.ok().and_then(Result::ok).ok_or(PasswordError::Busy)?;
        let done = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(permit);
            result
        });
        done.await.map_err(|error| PasswordError::Hashing(error.to_string()))
    }
}

fn weakness(password: &str, about: &[String]) -> Option<Weakness> {
    let about: Vec<&str> = about.iter().map(String::as_str).collect();
    let estimate = zxcvbn::zxcvbn(password, &about);
    (estimate.score() < zxcvbn::Score::Three).then(|| Weakness { why: estimate.feedback().cloned() })
}

fn hash(argon2: &Argon2<'_>, password: &str, random: &Random) -> Result<PasswordHash, PasswordError> {
    let hash: argon2::PasswordHash = argon2
        .hash_password_with_salt(password.as_bytes(), &random.bytes::<16>())
        .map_err(|error| PasswordError::Hashing(error.to_string()))?;
    Ok(PasswordHash(hash.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> PasswordPool {
        let cheap = Passwords { memory_kib: 64, iterations: 1, ..Passwords::default() };
        PasswordPool::new(&cheap, Random::seeded(1)).unwrap()
    }

    fn secret(text: &str) -> Zeroizing<String> {
        Zeroizing::new(text.to_owned())
    }

    #[tokio::test]
    async fn only_the_right_password_verifies_and_nobody_has_the_decoys() {
        let pool = pool();
        let hash = pool.hash(secret("correct horse")).await.unwrap();
        assert!(hash.0.starts_with("$argon2id$"));
        assert!(pool.verify(secret("correct horse"), Some(hash.clone())).await.unwrap());
        assert!(!pool.verify(secret("correct horsf"), Some(hash)).await.unwrap());
        assert!(!pool.verify(secret("nobody has this password"), None).await.unwrap());
    }

    #[tokio::test]
    async fn too_short_and_too_long_passwords_are_refused_before_hashing() {
        let pool = pool();
        assert!(matches!(pool.hash(secret("short")).await, Err(PasswordError::Length(_))));
        assert!(matches!(pool.hash(secret(&"x".repeat(300))).await, Err(PasswordError::Length(_))));
        assert!(!pool.verify(secret(&"x".repeat(300)), None).await.unwrap());
    }

    #[tokio::test]
    async fn what_is_easy_to_guess_is_told_with_the_reason() {
        let pool = pool();
        let advise =
            async |password: &str, about: &str| pool.advise(secret(password), vec![about.to_owned()]).await.unwrap();
        assert!(advise("password123", "").await.unwrap().why.unwrap().warning().is_some());
        assert!(advise("annexample2026", "annexample").await.is_some());
        assert!(advise("correct horse battery", "ann").await.is_none());
        assert!(pool.advise(secret("short"), Vec::new()).await.is_err());
    }

    #[tokio::test]
    async fn the_same_password_hashes_differently_each_time() {
        let pool = pool();
        assert_ne!(
            pool.hash(secret("correct horse")).await.unwrap().0,
            pool.hash(secret("correct horse")).await.unwrap().0
        );
    }
}
