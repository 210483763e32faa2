//! What the sidecars of this replica may hold, and so of which events they must hear.

use std::collections::{BTreeMap, HashMap, HashSet};

use cloakroom_protocol::interest::{Block, Filter, Key};

/// Keys of one generation before everything is sent again: memory is bounded, whoever asks.
const MOST: usize = 16_384;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// Of each stream everything, until its sidecar has said what it holds; from then on that, and what it has asked about since. Kept so that
/// an event is not held against each stream in turn: there are thousands of either.
#[derive(Default)]
pub struct Interests {
    of: HashMap<StreamId, Interest>,
    /// Who hears of everything.
    wide: HashSet<StreamId>,
    /// Who asked about a key, as often as there are generations in which it did.
    asked: HashMap<Key, Vec<StreamId>>,
    /// What was declared, by the filters' number of blocks.
    declared: HashMap<usize, Columns>,
}

#[derive(Default)]
struct Interest {
    declared: Option<u64>,
    asked: BTreeMap<u64, Asked>,
    /// Where its filter is; one without blocks is nowhere.
    place: Option<Place>,
}

#[derive(Default)]
struct Asked {
    keys: HashSet<Key>,
    everything: bool,
}

#[derive(Clone, Copy)]
struct Place {
    blocks: usize,
    at: usize,
}

/// Filters of one size, block by block: those of all filters at which a key's bits are lie side by side.
#[derive(Default)]
struct Columns {
    members: Vec<StreamId>,
    blocks: Vec<Vec<Block>>,
}

impl Interests {
    pub fn open(&mut self, id: StreamId) {
        self.of.insert(id, Interest::default());
        self.wide.insert(id);
    }

    pub fn close(&mut self, id: StreamId) {
        let Some(interest) = self.of.remove(&id) else { return };
        self.wide.remove(&id);
        self.forget(id, interest.asked.into_values());
        self.take_out(interest.place);
    }

    /// Whom an event about `key` may concern, each once; without a key, everybody.
    pub fn concerned(&self, about: Option<Key>) -> Vec<StreamId> {
        let Some(key) = about else { return self.of.keys().copied().collect() };
        let mut ids: Vec<_> = self.wide.iter().chain(self.asked.get(&key).into_iter().flatten()).copied().collect();
        for (blocks, columns) in &self.declared {
            if let Some((at, bits)) = Filter::place(key, *blocks) {
                let holders = columns.blocks[at].iter().zip(&columns.members).filter(|(block, _)| block.has(&bits));
                ids.extend(holders.map(|(_, id)| *id));
            }
        }
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// A question of that generation was answered.
    pub fn asked(&mut self, id: StreamId, generation: u64, keys: impl Iterator<Item = Key>) {
        let Some(interest) = self.of.get_mut(&id) else { return };
        // A question that was overtaken by two declarations is kept with the older one, and so for longer.
        let oldest = interest.declared.map_or(0, |declared| declared.saturating_sub(1));
        let asked = interest.asked.entry(generation.clamp(oldest, oldest + 2)).or_default();
        for key in keys {
            if asked.keys.insert(key) {
                self.asked.entry(key).or_default().push(id);
            }
        }
        if asked.keys.len() > MOST {
            let many = std::mem::replace(asked, Asked { keys: HashSet::new(), everything: true });
            self.wide.insert(id);
            self.forget(id, [many]);
        }
    }

    /// `filter` holds what the sidecar held when it began `generation`. Answers to questions of the generation before may have been
    /// under way then, so what those asked about stays; a sidecar believes no older ones.
    pub fn declare(&mut self, id: StreamId, generation: u64, filter: &Filter) {
        let Some(interest) = self.of.get_mut(&id) else { return };
        if interest.declared.is_some_and(|declared| declared >= generation) {
            return;
        }
        interest.declared = Some(generation);
        let recent = interest.asked.split_off(&generation.saturating_sub(1));
        let settled = std::mem::replace(&mut interest.asked, recent);
        if !interest.asked.values().any(|asked| asked.everything) {
            self.wide.remove(&id);
        }
        let before = interest.place.take();
        self.forget(id, settled.into_values());
        self.take_out(before);
        let place = self.put_in(id, filter);
        if let Some(interest) = self.of.get_mut(&id) {
            interest.place = place;
        }
    }

    fn forget(&mut self, id: StreamId, asked: impl IntoIterator<Item = Asked>) {
        for key in asked.into_iter().flat_map(|asked| asked.keys) {
            let Some(ids) = self.asked.get_mut(&key) else { continue };
            if let Some(at) = ids.iter().position(|other| *other == id) {
                ids.swap_remove(at);
            }
            if ids.is_empty() {
                self.asked.remove(&key);
            }
        }
    }

    fn put_in(&mut self, id: StreamId, filter: &Filter) -> Option<Place> {
        let blocks = filter.blocks();
        if blocks.is_empty() {
            return None;
        }
        let columns = self.declared.entry(blocks.len()).or_default();
        columns.blocks.resize_with(blocks.len(), Vec::new);
        for (column, block) in columns.blocks.iter_mut().zip(blocks) {
            column.push(*block);
        }
        columns.members.push(id);
        Some(Place { blocks: blocks.len(), at: columns.members.len() - 1 })
    }

    fn take_out(&mut self, place: Option<Place>) {
        let Some(Place { blocks, at }) = place else { return };
        let Some(columns) = self.declared.get_mut(&blocks) else { return };
        columns.members.swap_remove(at);
        for column in &mut columns.blocks {
            column.swap_remove(at);
        }
        match columns.members.get(at) {
            // The last one took its place.
            Some(moved) => {
                if let Some(interest) = self.of.get_mut(moved) {
                    interest.place = Some(Place { blocks, at });
                }
            }
            None if columns.members.is_empty() => drop(self.declared.remove(&blocks)),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt as _, SeedableRng as _};

    use super::*;

    const ID: StreamId = StreamId(7);

    fn key(name: &str) -> Key {
        Key::subject(name)
    }

    fn opened() -> Interests {
        let mut interests = Interests::default();
        interests.open(ID);
        interests
    }

    fn asked(interests: &mut Interests, generation: u64, name: &str) {
        interests.asked(ID, generation, std::iter::once(key(name)));
    }

    fn wants(interests: &Interests, name: &str) -> bool {
        interests.concerned(Some(key(name))) == [ID]
    }

    #[test]
    fn everything_is_wanted_until_something_is_declared() {
        let mut interests = opened();
        assert!(wants(&interests, "any"));
        interests.declare(ID, 1, &Filter::of(&[key("ann")]));
        assert!(wants(&interests, "ann"));
        assert!(!wants(&interests, "any"));
        assert_eq!(interests.concerned(None), [ID], "signing keys concern everybody");
    }

    #[test]
    fn what_was_asked_about_is_wanted_until_two_declarations_later() {
        let mut interests = opened();
        asked(&mut interests, 0, "early");
        interests.declare(ID, 1, &Filter::of(&[]));
        assert!(wants(&interests, "early"), "its answer may have been under way");
        asked(&mut interests, 0, "slow");
        asked(&mut interests, 1, "later");
        interests.declare(ID, 2, &Filter::of(&[]));
        assert!(!wants(&interests, "early") && !wants(&interests, "slow"));
        assert!(wants(&interests, "later"));
    }

    #[test]
    fn an_older_declaration_that_arrives_late_changes_nothing() {
        let mut interests = opened();
        interests.declare(ID, 2, &Filter::of(&[key("ann")]));
        interests.declare(ID, 1, &Filter::of(&[]));
        interests.declare(ID, 2, &Filter::of(&[]));
        assert!(wants(&interests, "ann"));
    }

    #[test]
    fn too_many_questions_are_a_wish_for_everything() {
        let mut interests = opened();
        interests.declare(ID, 1, &Filter::of(&[]));
        interests.asked(ID, 1, (0..=MOST).map(|n| key(&n.to_string())));
        assert!(wants(&interests, "any") && interests.asked.is_empty());
        interests.declare(ID, 2, &Filter::of(&[]));
        assert!(wants(&interests, "any"));
        interests.declare(ID, 3, &Filter::of(&[]));
        assert!(!wants(&interests, "any"));
    }

    #[test]
    fn made_up_generations_make_no_more_lists() {
        let mut interests = opened();
        for generation in 0..10_000 {
            asked(&mut interests, generation, "ann");
        }
        assert!(interests.of[&ID].asked.len() <= 3);
        interests.declare(ID, 1, &Filter::of(&[]));
        interests.declare(ID, 2, &Filter::of(&[]));
        assert!(wants(&interests, "ann"), "kept rather too long than too short");
    }

    /// Whatever happens in whatever order, each stream hears of what it would hear of if it were alone; and nothing is left of who went.
    #[test]
    fn streams_do_not_get_in_each_others_way() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut together = Interests::default();
        let mut alone: BTreeMap<StreamId, Interests> = BTreeMap::new();
        let names: Vec<String> = (0..40).map(|n| n.to_string()).collect();
        let some = |rng: &mut StdRng| -> Vec<Key> {
            (0..rng.random_range(0..30)).map(|_| key(&names[rng.random_range(0..names.len())])).collect()
        };
        for generation in 1_u64..2000 {
            let id = StreamId(rng.random_range(0..12));
            let (action, filter, keys) = (rng.random_range(0..6), Filter::of(&some(&mut rng)), some(&mut rng));
            let of = generation.saturating_sub(rng.random_range(0..20));
            for interests in [&mut together, alone.entry(id).or_default()] {
                match action {
                    0 => interests.close(id),
                    1 if interests.of.contains_key(&id) => {}
                    1 => interests.open(id),
                    2 | 3 => interests.declare(id, generation, &filter),
                    _ => interests.asked(id, of, keys.iter().copied()),
                }
            }
            let about = key(&names[rng.random_range(0..names.len())]);
            let each: Vec<StreamId> = alone.values().flat_map(|single| single.concerned(Some(about))).collect();
            assert_eq!(together.concerned(Some(about)), each);
        }
        for id in alone.keys() {
            together.close(*id);
        }
        assert!(together.of.is_empty() && together.wide.is_empty());
        assert!(together.asked.is_empty() && together.declared.is_empty());
    }
}
