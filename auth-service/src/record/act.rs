//! Who acts for a subject (RFC 8693 §4.1): the last one outside, the ones before it nested.

use serde::{Deserialize, Serialize};

/// Services that may have passed a request on, one to the next.
const MAX_DEPTH: usize = 5;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    pub sub: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<Box<Actor>>,
}

impl Actor {
    /// `None`: the chain is too long already.
    pub fn new(sub: &str, before: Option<Self>) -> Option<Self> {
        let new = Self { sub: sub.to_owned(), act: before.map(Box::new) };
        (new.depth() <= MAX_DEPTH).then_some(new)
    }

    fn depth(&self) -> usize {
        1 + self.act.as_ref().map_or(0, |before| before.depth())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_nests_and_ends_somewhere() {
        let mut chain = Actor::new("a", None);
        let two = Actor::new("b", chain.clone()).unwrap();
        assert_eq!(serde_json::to_string(&two).unwrap(), r#"{"sub":"b","act":{"sub":"a"}}"#);
        for _ in 1..MAX_DEPTH {
            chain = Actor::new("x", chain);
        }
        assert!(chain.is_some() && Actor::new("y", chain).is_none());
    }
}
