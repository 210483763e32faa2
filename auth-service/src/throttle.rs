//! How often a password may be tried: counted in the store, so that all replicas count together.

use std::net::IpAddr;
use std::time::Duration;

use crate::config::Limits;
use crate::record::hash::StoredHash;
use crate::store::{Key, Store, StoreError, to_json};

const DAY: Duration = Duration::from_secs(86_400);

/// Whether an attempt may go ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Go,
    /// Too many; try again after so many seconds.
    Wait(u64),
}

/// Counts an attempt before anything is computed for it. `account` is the account's id, or the name as typed where there is none: both
/// are counted alike, so that the limit does not tell which names exist.
pub async fn attempt(
    store: &dyn Store,
    limits: &Limits,
    account: &str,
    address: IpAddr,
) -> Result<Verdict, StoreError> {
    let window = Duration::from_secs(limits.window_seconds);
    let [pair, whole, from] = counters(account, address);
    let (pair, whole, from) =
        tokio::try_join!(store.hit(&pair, window), store.hit(&whole, window), store.hit(&from, window))?;
    let within = pair <= limits.per_account_and_address && whole <= limits.per_account && from <= limits.per_address;
    Ok(if within { Verdict::Go } else { Verdict::Wait(limits.window_seconds) })
}

/// Counts a try at a second factor. Whoever gets here has the password, so the count is by account and lasts a day: six digits would not
/// survive the password's limits. Browsers in which the account was used before count on their own (`known`), so that a thief of the
/// password cannot lock the owner out.
pub async fn code(store: &dyn Store, limits: &Limits, sub: &str, known: Option<&str>) -> Result<Verdict, StoreError> {
    let count = store.hit(&codes(sub, known), DAY).await?;
    Ok(if count <= limits.codes_per_account { Verdict::Go } else { Verdict::Wait(limits.window_seconds) })
}

pub async fn forgive_codes(store: &dyn Store, sub: &str, known: Option<&str>) -> Result<(), StoreError> {
    store.forget_hits(&codes(sub, known)).await
}

fn codes(sub: &str, known: Option<&str>) -> Key {
    let name = to_json(&StoredHash::of_secret(&format!("{sub}\0{}", known.unwrap_or_default()))).replace('"', "");
    Key::new("codes", name)
}

/// Counts a visit that makes the store remember something for somebody who is not signed in.
pub async fn visit(store: &dyn Store, limits: &Limits, address: IpAddr) -> Result<Verdict, StoreError> {
    let counter = Key::new("visits", network(address));
    let count = store.hit(&counter, Duration::from_secs(limits.window_seconds)).await?;
    Ok(if count <= limits.visits_per_address { Verdict::Go } else { Verdict::Wait(limits.window_seconds) })
}

/// After the right password: what this person mistyped before is forgiven. The address's count stays, or an attacker could clear it by
/// signing in to an account of his own.
pub async fn forgive(store: &dyn Store, account: &str, address: IpAddr) -> Result<(), StoreError> {
    let [pair, _, _] = counters(account, address);
    store.forget_hits(&pair).await
}

fn counters(account: &str, address: IpAddr) -> [Key; 3] {
    let address = network(address);
    let name = |text: &str| to_json(&StoredHash::of_secret(text)).replace('"', "");
    [
        Key::new("tries", name(&format!("{account}\0{address}"))),
        Key::new("tries", name(&format!("account\0{account}"))),
        Key::new("tries", name(&format!("address\0{address}"))),
    ]
}

/// Whoever has one IPv6 address has 2^64 of them.
fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::store::memory::MemoryStore;

    const LIMITS: Limits = Limits {
        window_seconds: 60,
        per_account_and_address: 2,
        per_account: 4,
        per_address: 6,
        codes_per_account: 2,
        visits_per_address: 9,
    };

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn a_stranger_cannot_lock_the_owner_out_with_a_few_tries() {
        let store = MemoryStore::new(Clock::system());
        for _ in 0..2 {
            assert_eq!(attempt(&store, &LIMITS, "ann", ip("198.51.100.1")).await.unwrap(), Verdict::Go);
        }
        assert_eq!(attempt(&store, &LIMITS, "ann", ip("198.51.100.1")).await.unwrap(), Verdict::Wait(60));
        assert_eq!(attempt(&store, &LIMITS, "ann", ip("203.0.113.9")).await.unwrap(), Verdict::Go);
    }

    #[tokio::test]
    async fn one_address_cannot_try_many_accounts() {
        let store = MemoryStore::new(Clock::system());
        for account in ["a", "b", "c", "d", "e", "f"] {
            assert_eq!(attempt(&store, &LIMITS, account, ip("2001:db8::1")).await.unwrap(), Verdict::Go);
        }
        let neighbour = ip("2001:db8::ffff:1");
        assert_eq!(attempt(&store, &LIMITS, "g", neighbour).await.unwrap(), Verdict::Wait(60), "same /64");
    }

    #[tokio::test]
    async fn a_thief_of_the_password_has_few_codes_and_cannot_use_up_the_owners() {
        let store = MemoryStore::new(Clock::system());
        for _ in 0..2 {
            assert_eq!(code(&store, &LIMITS, "ann", None).await.unwrap(), Verdict::Go);
        }
        assert_eq!(code(&store, &LIMITS, "ann", None).await.unwrap(), Verdict::Wait(60));
        assert_eq!(code(&store, &LIMITS, "ann", Some("own")).await.unwrap(), Verdict::Go);
        assert_eq!(code(&store, &LIMITS, "bob", None).await.unwrap(), Verdict::Go);
    }

    #[tokio::test]
    async fn success_forgives_the_account_but_not_the_address() {
        let store = MemoryStore::new(Clock::system());
        let address = ip("198.51.100.1");
        for _ in 0..3 {
            for _ in 0..2 {
                attempt(&store, &LIMITS, "mallory", address).await.unwrap();
            }
            forgive(&store, "mallory", address).await.unwrap();
        }
        assert_eq!(attempt(&store, &LIMITS, "victim", address).await.unwrap(), Verdict::Wait(60));
    }
}
