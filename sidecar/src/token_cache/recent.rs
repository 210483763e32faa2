//! What happened lately, so that an answer which was under way meanwhile is not believed.

use std::collections::VecDeque;

use cloakroom_protocol::events::Revoked;
use cloakroom_protocol::introspection::ActiveToken;
use cloakroom_protocol::token::TokenId;

/// Questions are answered within seconds; an answer that more happenings than this overtook is asked for again.
const REMEMBERED: usize = 1024;

/// A point in the sequence of happenings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position(u64);

/// Why an answer is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Overtaken {
    #[error("revoked while the answer was under way")]
    Revoked,
    #[error("changed while the answer was under way")]
    Updated,
    #[error("the event stream would not tell of changes to it")]
    Uncovered,
}

enum Happening {
    Revoked(Revoked),
    Updated(TokenId),
    /// Nothing, but what comes after it can be told from what came before.
    Boundary,
}

#[derive(Default)]
pub struct Recent {
    happenings: VecDeque<Happening>,
    /// How many there were before the first in the queue.
    forgotten: u64,
    /// Answers from before this are void, whatever they are about.
    floor: u64,
}

impl Recent {
    pub fn position(&self) -> Position {
        Position(self.forgotten + self.happenings.len() as u64)
    }

    pub fn revoked(&mut self, revoked: Revoked) {
        self.push(Happening::Revoked(revoked));
    }

    pub fn updated(&mut self, id: TokenId) {
        self.push(Happening::Updated(id));
    }

    /// Something that concerns every answer.
    pub fn all(&mut self) {
        self.forgotten += self.happenings.len() as u64 + 1;
        self.happenings.clear();
        self.floor = self.forgotten;
    }

    /// A position that no question asked so far has.
    pub fn boundary(&mut self) -> Position {
        self.push(Happening::Boundary);
        self.position()
    }

    /// Answers to questions from before `position` are void, whatever they are about.
    pub fn void(&mut self, position: Position) {
        self.floor = self.floor.max(position.0);
    }

    pub fn is_void(&self, began: Position) -> bool {
        began.0 < self.floor || began.0 < self.forgotten
    }

    /// Whether nothing that concerns this answer happened since the question.
    pub fn check(&self, began: Position, active: &ActiveToken) -> Result<(), Overtaken> {
        if self.is_void(began) {
            return Err(Overtaken::Revoked);
        }
        let since = usize::try_from(began.0 - self.forgotten).unwrap_or(usize::MAX);
        let mut updated = false;
        for happening in self.happenings.iter().skip(since) {
            match happening {
                Happening::Revoked(revoked) if concerns(revoked, active) => return Err(Overtaken::Revoked),
                Happening::Updated(id) if is_of(active, *id) => updated = true,
                _ => {}
            }
        }
        if updated { Err(Overtaken::Updated) } else { Ok(()) }
    }

    fn push(&mut self, happening: Happening) {
        if self.happenings.len() == REMEMBERED {
            self.happenings.pop_front();
            self.forgotten += 1;
        }
        self.happenings.push_back(happening);
    }
}

fn concerns(revoked: &Revoked, active: &ActiveToken) -> bool {
    match revoked {
        Revoked::Id { id } => is_of(active, *id),
        Revoked::Subject { sub, except } => *sub == active.sub && *except != Some(active.id),
        Revoked::Client { client_id } => *client_id == active.client_id,
    }
}

fn is_of(active: &ActiveToken, id: TokenId) -> bool {
    active.id == id || active.sid == Some(id)
}
