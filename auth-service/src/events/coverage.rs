//! Whether the sidecar that asks will hear of what happens to the answer.

use std::sync::Arc;

use cloakroom_protocol::interest::{Key, STREAM_HEADER};
use http::{HeaderMap, HeaderValue};

use super::Hub;
use super::passed::Position;
use super::streams::Stream;
use crate::identity::Identity;

/// Events that go on for longer than this concern whoever is asked about.
pub const ATTEMPTS: usize = 3;

/// The event stream that the asking sidecar reads, if it is at this replica.
pub struct Coverage<'a> {
    hub: &'a Hub,
    stream: Option<(Arc<Stream>, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Covered {
    Yes,
    /// No stream here, or none that was named: the sidecar sees to it.
    No,
    /// Something about it passed while it was read: read it again.
    Overtaken,
}

impl<'a> Coverage<'a> {
    pub fn of(hub: &'a Hub, headers: &HeaderMap) -> Self {
        let named = headers.get(STREAM_HEADER).and_then(|value| value.to_str().ok()?.rsplit_once('.'));
        let stream =
            named.and_then(|(name, generation)| Some((hub.streams.find(name)?, generation.parse::<u64>().ok()?)));
        Self { hub, stream }
    }

    /// To be taken before the record is read.
    pub fn begin(&self) -> Position {
        self.hub.passed.position()
    }

    /// Events about that identity reach the sidecar from now on. An event that was left out before was written down before that, and is
    /// found here: none falls between.
    pub fn cover(&self, began: Position, identity: &Identity) -> Covered {
        let Some((stream, generation)) = &self.stream else { return Covered::No };
        let keys = Key::of_token(&identity.id, identity.sid.as_ref(), &identity.sub, &identity.client_id);
        self.hub.streams.asked(stream, *generation, keys);
        if self.hub.passed.concerned(began, identity) { Covered::Overtaken } else { Covered::Yes }
    }

    /// Says so to the sidecar.
    pub fn confirm(&self, headers: &mut HeaderMap) {
        let name = self.stream.as_ref().and_then(|(stream, _)| HeaderValue::from_str(stream.name()).ok());
        if let Some(name) = name {
            headers.insert(STREAM_HEADER, name);
        }
    }
}
