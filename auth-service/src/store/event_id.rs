//! Ids of stream entries, `<milliseconds>-<sequence>` as Redis writes them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventId {
    pub millis: u64,
    pub sequence: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event id is <milliseconds>-<sequence>")]
pub struct InvalidEventId;

impl EventId {
    /// No id is between.
    #[must_use]
    pub fn next(self) -> Self {
        Self { sequence: self.sequence.saturating_add(1), ..self }
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.millis, self.sequence)
    }
}

impl FromStr for EventId {
    type Err = InvalidEventId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| digits.parse().ok()).flatten().ok_or(InvalidEventId)
        };
        let (millis, sequence) = text.split_once('-').ok_or(InvalidEventId)?;
        Ok(Self { millis: number(millis)?, sequence: number(sequence)? })
    }
}

impl TryFrom<String> for EventId {
    type Error = InvalidEventId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<EventId> for String {
    fn from(id: EventId) -> Self {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_compared_as_numbers_and_not_as_text() {
        let small: EventId = "9-10".parse().unwrap();
        let large: EventId = "10-9".parse().unwrap();
        assert!(small < large);
        assert_eq!(large.to_string(), "10-9");
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "-", "1", "1-", "-1", "+1-0", "1-0-0", "1-x", "99999999999999999999-0", "$", "0x1-0"] {
            assert!(text.parse::<EventId>().is_err(), "{text}");
        }
    }
}
