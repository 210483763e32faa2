//! Which tokens hang on what: on a record, a session, a subject. However many have something in common, finding and dropping one takes the
//! same time, and most have theirs to themselves.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use cloakroom_protocol::interest::Key;

use super::Fingerprint;

#[derive(Default)]
pub struct Holders {
    by_key: HashMap<Key, Held>,
}

enum Held {
    Alone(Fingerprint),
    Together(HashSet<Fingerprint>),
}

impl Holders {
    pub fn add(&mut self, key: Key, fingerprint: Fingerprint) {
        match self.by_key.entry(key) {
            Entry::Vacant(place) => {
                place.insert(Held::Alone(fingerprint));
            }
            Entry::Occupied(mut held) => match held.get_mut() {
                Held::Together(all) => {
                    all.insert(fingerprint);
                }
                Held::Alone(first) if *first == fingerprint => {}
                Held::Alone(first) => {
                    let all = HashSet::from([*first, fingerprint]);
                    held.insert(Held::Together(all));
                }
            },
        }
    }

    pub fn remove(&mut self, key: Key, fingerprint: &Fingerprint) {
        let Entry::Occupied(mut held) = self.by_key.entry(key) else { return };
        let nobody_left = match held.get_mut() {
            Held::Alone(only) => only == fingerprint,
            Held::Together(all) => {
                all.remove(fingerprint);
                all.is_empty()
            }
        };
        if nobody_left {
            held.remove();
        }
    }

    pub fn clear(&mut self) {
        self.by_key = HashMap::new();
    }

    /// Keys are hashes: what has the same is not always what is meant.
    pub fn of(&self, key: Key) -> impl Iterator<Item = &Fingerprint> {
        let (alone, together) = match self.by_key.get(&key) {
            None => (None, None),
            Some(Held::Alone(only)) => (Some(only), None),
            Some(Held::Together(all)) => (None, Some(all)),
        };
        alone.into_iter().chain(together.into_iter().flatten())
    }

    /// Each once.
    pub fn keys(&self) -> impl Iterator<Item = Key> {
        self.by_key.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use cloakroom_protocol::token::{OpaqueToken, TokenKind};

    use super::*;

    fn fingerprints<const N: usize>() -> [Fingerprint; N] {
        use rand::SeedableRng as _;
        let mut rng = rand::rngs::StdRng::seed_from_u64(1);
        std::array::from_fn(|_| Fingerprint::of_presented(&OpaqueToken::generate(TokenKind::Session, &mut rng).into()))
    }

    fn of(holders: &Holders, key: Key) -> Vec<Fingerprint> {
        let mut found: Vec<_> = holders.of(key).copied().collect();
        found.sort_unstable();
        found
    }

    #[test]
    fn what_hangs_on_a_key_is_found_until_it_is_dropped() {
        let (mut holders, mut all) = (Holders::default(), fingerprints::<3>());
        all.sort_unstable();
        let [first, second, third] = all;
        let (ann, bob) = (Key::subject("ann"), Key::subject("bob"));
        for fingerprint in all {
            holders.add(ann, fingerprint);
            holders.add(ann, fingerprint);
        }
        holders.add(bob, first);
        assert!(of(&holders, ann) == all && of(&holders, bob) == [first]);
        holders.remove(ann, &second);
        holders.remove(bob, &second);
        assert!(of(&holders, ann) == [first, third] && of(&holders, bob) == [first]);
        holders.remove(ann, &first);
        holders.remove(ann, &third);
        assert!(of(&holders, ann).is_empty());
        assert_eq!(holders.keys().collect::<Vec<_>>(), [bob]);
        holders.remove(bob, &first);
        assert_eq!(holders.keys().count(), 0);
    }
}
