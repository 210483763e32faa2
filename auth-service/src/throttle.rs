//! How often a secret may be tried: counted in the store, so that all replicas count together.
//!
//! Whoever fails often enough for an account is slowed down, and so could slow its owner down. Therefore a browser that has signed in to the
//! account before is judged by its own failures alone: strangers spend from other counters than the owner does.

use std::net::IpAddr;
use std::time::Duration;

use crate::config::Limits;
use crate::record::hash::StoredHash;
use crate::store::{Key, Store, StoreError, to_json};

/// Who tries: where from, and in which browser, if the account was used in it before.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    pub address: IpAddr,
    pub known: Option<&'a str>,
}

const DAY: Duration = Duration::from_secs(86_400);

/// Whether an attempt may go ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Go,
    /// Too many; try again after so many seconds.
    Wait(u64),
}

impl Verdict {
    fn of(within: bool, wait_seconds: u64) -> Self {
        if within { Self::Go } else { Self::Wait(wait_seconds) }
    }
}

/// Counts an attempt before anything is computed for it. `account` is the account's id, or the name as typed where there is none: both
/// are counted alike, so that the limit does not tell which names exist.
pub async fn attempt(
    store: &dyn Store,
    limits: &Limits,
    account: &str,
    from: Source<'_>,
) -> Result<Verdict, StoreError> {
    let window = Duration::from_secs(limits.window_seconds);
    if let Some(known) = from.known {
        let within = store.hit(&own(account, known), window).await? <= limits.per_account_and_address;
        return Ok(Verdict::of(within, limits.window_seconds));
    }
    let [pair, whole, from] = counters(account, from.address);
    let (pair, whole, from) =
        tokio::try_join!(store.hit(&pair, window), store.hit(&whole, window), store.hit(&from, window))?;
    let within = pair <= limits.per_account_and_address && whole <= limits.per_account && from <= limits.per_address;
    Ok(Verdict::of(within, limits.window_seconds))
}

/// Counts a try at a second factor. Whoever gets here has the password, so the count is by account and lasts a day: six digits would not
/// survive the password's limits. Browsers in which the account was used before count on their own (`known`), so that a thief of the
/// password cannot lock the owner out.
pub async fn code(store: &dyn Store, limits: &Limits, sub: &str, known: Option<&str>) -> Result<Verdict, StoreError> {
    let count = store.hit(&codes(sub, known), DAY).await?;
    Ok(Verdict::of(count <= limits.codes_per_account, limits.window_seconds))
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
    Ok(Verdict::of(count <= limits.visits_per_address, limits.window_seconds))
}

/// After the right password: what this person mistyped before is forgiven. The address's count stays, or an attacker could clear it by
/// signing in to an account of his own.
pub async fn forgive(store: &dyn Store, account: &str, from: Source<'_>) -> Result<(), StoreError> {
    let [pair, _, _] = counters(account, from.address);
    store.forget_hits(&pair).await?;
    match from.known {
        Some(known) => store.forget_hits(&own(account, known)).await,
        None => Ok(()),
    }
}

/// Counts a client's failure to show that it is who it says; whether it may go on trying. Per address: nobody can lock another's client out.
pub async fn refused(store: &dyn Store, limits: &Limits, client: &str, address: IpAddr) -> Result<Verdict, StoreError> {
    let counter = Key::new("tries", name(&format!("client\0{client}\0{}", network(address))));
    let count = store.hit(&counter, Duration::from_secs(limits.window_seconds)).await?;
    Ok(Verdict::of(count < limits.per_client_and_address, limits.window_seconds))
}

/// Counts a client that somebody registers without a token.
pub async fn registration(store: &dyn Store, per_address: u64, address: IpAddr) -> Result<Verdict, StoreError> {
    let count = store.hit(&Key::new("registrations", network(address)), DAY).await?;
    Ok(Verdict::of(count <= per_address, DAY.as_secs()))
}

/// What a browser that is known at an account has tried there.
fn own(account: &str, known: &str) -> Key {
    Key::new("tries", name(&format!("known\0{account}\0{known}")))
}

fn name(text: &str) -> String {
    to_json(&StoredHash::of_secret(text)).replace('"', "")
}

fn counters(account: &str, address: IpAddr) -> [Key; 3] {
    let address = network(address);
    [
        Key::new("tries", name(&format!("{account}\0{address}"))),
        Key::new("tries", name(&format!("account\0{account}"))),
        Key::new("tries", name(&format!("address\0{address}"))),
    ]
}

/// Whoever has one IPv6 address has 2^64 of them.
pub fn network(address: IpAddr) -> String {
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
        per_client_and_address: 3,
    };

    fn from(address: &str) -> Source<'static> {
        Source { address: address.parse().unwrap(), known: None }
    }

    #[tokio::test]
    async fn a_stranger_cannot_lock_the_owner_out_with_a_few_tries() {
        let store = MemoryStore::new(Clock::system());
        for _ in 0..2 {
            assert_eq!(attempt(&store, &LIMITS, "ann", from("198.51.100.1")).await.unwrap(), Verdict::Go);
        }
        assert_eq!(attempt(&store, &LIMITS, "ann", from("198.51.100.1")).await.unwrap(), Verdict::Wait(60));
        assert_eq!(attempt(&store, &LIMITS, "ann", from("203.0.113.9")).await.unwrap(), Verdict::Go);
    }

    #[tokio::test]
    async fn strangers_from_everywhere_cannot_lock_a_known_browser_out_not_even_from_its_own_address() {
        let store = MemoryStore::new(Clock::system());
        for host in 1..=9 {
            for _ in 0..3 {
                attempt(&store, &LIMITS, "ann", from(&format!("203.0.113.{host}"))).await.unwrap();
            }
        }
        let same_place = from("203.0.113.1");
        assert_eq!(attempt(&store, &LIMITS, "ann", same_place).await.unwrap(), Verdict::Wait(60));
        let own = Source { known: Some("the owner's"), ..same_place };
        for _ in 0..2 {
            assert_eq!(attempt(&store, &LIMITS, "ann", own).await.unwrap(), Verdict::Go);
        }
        assert_eq!(attempt(&store, &LIMITS, "ann", own).await.unwrap(), Verdict::Wait(60), "nor guess on and on");
        forgive(&store, "ann", own).await.unwrap();
        assert_eq!(attempt(&store, &LIMITS, "ann", own).await.unwrap(), Verdict::Go);
    }

    #[tokio::test]
    async fn one_address_cannot_try_many_accounts() {
        let store = MemoryStore::new(Clock::system());
        for account in ["a", "b", "c", "d", "e", "f"] {
            assert_eq!(attempt(&store, &LIMITS, account, from("2001:db8::1")).await.unwrap(), Verdict::Go);
        }
        let neighbour = from("2001:db8::ffff:1");
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
        let here = from("198.51.100.1");
        for _ in 0..3 {
            for _ in 0..2 {
                attempt(&store, &LIMITS, "mallory", here).await.unwrap();
            }
            forgive(&store, "mallory", here).await.unwrap();
        }
        assert_eq!(attempt(&store, &LIMITS, "victim", here).await.unwrap(), Verdict::Wait(60));
    }

    #[tokio::test]
    async fn a_client_is_slowed_down_where_it_fails_and_nowhere_else() {
        let store = MemoryStore::new(Clock::system());
        let (here, elsewhere) = ("198.51.100.1".parse().unwrap(), "203.0.113.9".parse().unwrap());
        for _ in 0..2 {
            assert_eq!(refused(&store, &LIMITS, "app", here).await.unwrap(), Verdict::Go);
        }
        assert_eq!(refused(&store, &LIMITS, "app", here).await.unwrap(), Verdict::Wait(60));
        assert_eq!(refused(&store, &LIMITS, "app", elsewhere).await.unwrap(), Verdict::Go);
        assert_eq!(refused(&store, &LIMITS, "other", here).await.unwrap(), Verdict::Go);
    }
}
