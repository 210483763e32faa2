//! The revocation stream: server-sent events from `GET /internal/v1/events`.
//!
//! `id:` is the id of the Redis stream entry (`<ms>-<seq>`), `event:` the name below, `data:` its JSON. A client resumes with
//! `Last-Event-ID`; an id the server no longer holds is answered with `reset`.

use serde::{Deserialize, Serialize};

use crate::token::TokenId;

/// How often a replica that is in touch with its store says so.
pub const HEARTBEAT_SECONDS: u64 = 1;

/// How long a sidecar trusts its cache after the last heartbeat.
pub const LEASE_SECONDS: u64 = 5;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Tokens are refused from now on, and their open streams end.
    Revoked(Revoked),
    /// What a session says has changed: ask again before the next request.
    Updated { id: TokenId },
    /// Signing keys were added or retired: fetch the JWKS again.
    Keys,
    /// Everything up to this event's id has been sent.
    Heartbeat(Heartbeat),
    /// Events may have been missed: drop every cached answer.
    Reset,
}

/// Which tokens die.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "target", rename_all = "snake_case")]
pub enum Revoked {
    /// One record (session, grant or API key) and every token of it.
    Id { id: TokenId },
    /// Everything of one subject, but for the one session that asked, if it stays.
    Subject {
        sub: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        except: Option<TokenId>,
    },
    /// Everything issued to one client.
    Client { client_id: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// When the replica last heard from its store, Unix milliseconds by its own clock: a sidecar compares only the
    /// differences between heartbeats with its own clock, so skew does not matter and a delayed stream shows.
    pub at: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum InvalidEvent {
    #[error("unknown event {0:?}")]
    UnknownName(String),
    #[error("event data: {0}")]
    Data(#[from] serde_json::Error),
}

#[derive(Serialize, Deserialize)]
struct Updated {
    id: TokenId,
}

impl Event {
    /// The `event:` field.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Revoked(_) => "revoked",
            Self::Updated { .. } => "updated",
            Self::Keys => "keys",
            Self::Heartbeat(_) => "heartbeat",
            Self::Reset => "reset",
        }
    }

    /// The `data:` field, one line of JSON.
    pub fn data(&self) -> String {
        let json = match self {
            Self::Revoked(revoked) => serde_json::to_string(revoked),
            Self::Updated { id } => serde_json::to_string(&Updated { id: *id }),
            Self::Heartbeat(heartbeat) => serde_json::to_string(heartbeat),
            Self::Keys | Self::Reset => Ok("{}".to_owned()),
        };
        // Strings and numbers only: serialization has nothing to fail on.
        json.unwrap_or_default()
    }

    pub fn parse(name: &str, data: &str) -> Result<Self, InvalidEvent> {
        match name {
            "revoked" => Ok(Self::Revoked(serde_json::from_str(data)?)),
            "updated" => Ok(Self::Updated { id: serde_json::from_str::<Updated>(data)?.id }),
            "keys" => Ok(Self::Keys),
            "heartbeat" => Ok(Self::Heartbeat(serde_json::from_str(data)?)),
            "reset" => Ok(Self::Reset),
            other => Err(InvalidEvent::UnknownName(other.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_survives_a_round_trip() {
        let id: TokenId = "0123456789ABCDEFGHIJKL".parse().unwrap();
        for event in [
            Event::Revoked(Revoked::Id { id }),
            Event::Revoked(Revoked::Subject { sub: "u\n1".into(), except: Some(id) }),
            Event::Revoked(Revoked::Client { client_id: "shop/web".into() }),
            Event::Updated { id },
            Event::Keys,
            Event::Heartbeat(Heartbeat { at: 1 }),
            Event::Reset,
        ] {
            assert!(!event.data().contains('\n'), "one line: {event:?}");
            assert_eq!(Event::parse(event.name(), &event.data()).unwrap(), event);
        }
    }

    #[test]
    fn an_unknown_event_is_an_error_and_not_silence() {
        assert!(Event::parse("purge", "{}").is_err());
        assert!(Event::parse("revoked", r#"{"target":"all"}"#).is_err());
    }
}
