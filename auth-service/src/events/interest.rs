//! What one sidecar may hold, as its event stream's replica knows it.

use std::collections::{BTreeMap, HashSet};

use cloakroom_protocol::interest::{Filter, Key};

/// Keys of one generation before everything is sent again: memory is bounded, whoever asks.
const MOST: usize = 16_384;

/// Everything, until the sidecar has said what it holds; from then on that, and what it has asked about since.
#[derive(Default)]
pub struct Interest {
    declared: Option<(u64, Filter)>,
    asked: BTreeMap<u64, Asked>,
}

#[derive(Default)]
struct Asked {
    keys: HashSet<Key>,
    everything: bool,
}

impl Interest {
    pub fn wants(&self, about: Option<Key>) -> bool {
        let (Some(key), Some((_, filter))) = (about, &self.declared) else { return true };
        filter.may_contain(key) || self.asked.values().any(|asked| asked.everything || asked.keys.contains(&key))
    }

    /// A question of that generation was answered.
    pub fn asked(&mut self, generation: u64, keys: impl Iterator<Item = Key>) {
        // A question that was overtaken by two declarations is kept with the older one, and so for longer.
        let oldest = self.declared.as_ref().map_or(0, |(declared, _)| declared.saturating_sub(1));
        let asked = self.asked.entry(generation.clamp(oldest, oldest + 2)).or_default();
        asked.keys.extend(keys);
        if asked.keys.len() > MOST {
            *asked = Asked { keys: HashSet::new(), everything: true };
        }
    }

    /// `filter` holds what the sidecar held when it began `generation`. Answers to questions of the generation before may have been
    /// under way then, so what those asked about stays; a sidecar believes no older ones.
    pub fn declare(&mut self, generation: u64, filter: Filter) {
        if self.declared.as_ref().is_some_and(|(declared, _)| *declared >= generation) {
            return;
        }
        self.asked.retain(|asked, _| asked.saturating_add(1) >= generation);
        self.declared = Some((generation, filter));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::subject(name)
    }

    fn asked(interest: &mut Interest, generation: u64, name: &str) {
        interest.asked(generation, std::iter::once(key(name)));
    }

    #[test]
    fn everything_is_wanted_until_something_is_declared() {
        let mut interest = Interest::default();
        assert!(interest.wants(Some(key("any"))));
        interest.declare(1, Filter::of(&[key("ann")]));
        assert!(interest.wants(Some(key("ann"))));
        assert!(!interest.wants(Some(key("any"))));
        assert!(interest.wants(None), "signing keys concern everybody");
    }

    #[test]
    fn what_was_asked_about_is_wanted_until_two_declarations_later() {
        let mut interest = Interest::default();
        asked(&mut interest, 0, "early");
        interest.declare(1, Filter::of(&[]));
        assert!(interest.wants(Some(key("early"))), "its answer may have been under way");
        asked(&mut interest, 0, "slow");
        asked(&mut interest, 1, "later");
        interest.declare(2, Filter::of(&[]));
        assert!(!interest.wants(Some(key("early"))) && !interest.wants(Some(key("slow"))));
        assert!(interest.wants(Some(key("later"))));
    }

    #[test]
    fn an_older_declaration_that_arrives_late_changes_nothing() {
        let mut interest = Interest::default();
        interest.declare(2, Filter::of(&[key("ann")]));
        interest.declare(1, Filter::of(&[]));
        interest.declare(2, Filter::of(&[]));
        assert!(interest.wants(Some(key("ann"))));
    }

    #[test]
    fn too_many_questions_are_a_wish_for_everything() {
        let mut interest = Interest::default();
        interest.declare(1, Filter::of(&[]));
        interest.asked(1, (0..=MOST).map(|n| key(&n.to_string())));
        assert!(interest.wants(Some(key("any"))));
        interest.declare(2, Filter::of(&[]));
        assert!(interest.wants(Some(key("any"))));
        interest.declare(3, Filter::of(&[]));
        assert!(!interest.wants(Some(key("any"))));
    }

    #[test]
    fn made_up_generations_make_no_more_lists() {
        let mut interest = Interest::default();
        for generation in 0..10_000 {
            asked(&mut interest, generation, "ann");
        }
        assert!(interest.asked.len() <= 3);
        interest.declare(1, Filter::of(&[]));
        interest.declare(2, Filter::of(&[]));
        assert!(interest.wants(Some(key("ann"))), "kept rather too long than too short");
    }
}
