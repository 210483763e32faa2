//! Which events a sidecar has to hear: those about what it may hold.
//!
//! What its tokens hang on (record, session, subject, client) is told to the auth service as a set that may claim too much and never too
//! little. An event names one such thing, and goes to the sidecars whose set may have it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::events::{Event, Revoked};
use crate::token::TokenId;

/// Header of the event stream's response, of the questions that a sidecar asks while it reads that stream, and of their answers.
///
/// The stream's response names the stream. A question says `<stream>.<generation>`; its answer repeats the stream's name if what it
/// told about was added to that stream's set before any event about it could have been left out.
pub const STREAM_HEADER: &str = "cloakroom-stream";

/// Bytes of the largest set. One that holds more claims more often too much.
pub const MAX_FILTER: usize = 128 << 10;

/// Bits for each key: about one event in ten thousand goes out in vain.
const BITS_PER_KEY: usize = 26;

/// Something that a token hangs on and an event may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(u64);

/// Body of `POST /internal/v1/events/interest`: from now on only what is in `filter`, or was asked about in this generation or the one
/// before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interest {
    /// As given in `GET /internal/v1/events?sidecar=`.
    pub sidecar: String,
    /// The stream's name.
    pub stream: String,
    /// Counts a sidecar's declarations on one stream, from 1; questions asked since carry it.
    pub generation: u64,
    pub filter: Filter,
}

impl Key {
    /// A session, grant or API key.
    pub fn record(id: &TokenId) -> Self {
        Self::of(b'r', id.as_str())
    }

    pub fn subject(sub: &str) -> Self {
        Self::of(b's', sub)
    }

    pub fn client(client_id: &str) -> Self {
        Self::of(b'c', client_id)
    }

    /// All that a token hangs on.
    pub fn of_token(id: &TokenId, sid: Option<&TokenId>, sub: &str, client_id: &str) -> impl Iterator<Item = Self> {
        let sid = sid.filter(|sid| *sid != id).map(Self::record);
        [Self::record(id), Self::subject(sub), Self::client(client_id)].into_iter().chain(sid)
    }

    /// What an event is about; `None`: every sidecar must hear it.
    pub fn of_event(event: &Event) -> Option<Self> {
        match event {
            Event::Revoked(Revoked::Id { id }) | Event::Updated { id } => Some(Self::record(id)),
            Event::Revoked(Revoked::Subject { sub, .. }) => Some(Self::subject(sub)),
            Event::Revoked(Revoked::Client { client_id }) => Some(Self::client(client_id)),
            Event::Keys | Event::Heartbeat(_) | Event::Reset => None,
        }
    }

    /// FNV-1a, then `SplitMix64`'s finish: both ends must agree on it, nobody must be unable to guess it. Who chooses names that collide
    /// has events sent in vain.
    fn of(kind: u8, name: &str) -> Self {
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        for byte in std::iter::once(kind).chain(name.bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self(hash ^ (hash >> 31))
    }
}

/// A set of keys as a split block Bloom filter (as Apache Parquet specifies it): a key's eight bits lie in one block, so that asking
/// costs one cache line. Empty, it has no bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Filter {
    blocks: Box<[Block]>,
}

/// Where the bits of some of a filter's keys are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Block([u32; 8]);

const SALT: [u32; 8] =
    [0x47b6_137b, 0x4497_4d91, 0x8824_ad5b, 0xa2b7_289d, 0x7054_95c7, 0x2df1_424b, 0x9efc_4947, 0x5c6b_fb31];

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a filter")]
pub struct InvalidFilter;

impl Filter {
    pub fn of(keys: &[Key]) -> Self {
        let blocks = rounded((keys.len() * BITS_PER_KEY).div_ceil(256)).min(MAX_FILTER / size_of::<Block>());
        let mut filter = Self { blocks: vec![Block::default(); blocks].into() };
        for key in keys {
            if let Some((at, bits)) = Self::place(*key, blocks) {
                filter.blocks[at].set(&bits);
            }
        }
        filter
    }

    /// `false` is certain.
    pub fn may_contain(&self, key: Key) -> bool {
        Self::place(key, self.blocks.len()).is_some_and(|(at, bits)| self.blocks[at].has(&bits))
    }

    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Bytes.
    pub fn size(&self) -> usize {
        size_of_val(&*self.blocks)
    }

    /// In a filter of so many blocks: which of them has the key's bits, and which these are. None in a filter without blocks.
    pub fn place(Key(hash): Key, blocks: usize) -> Option<(usize, Block)> {
        let (high, low) = (hash >> 32, u32::try_from(hash & 0xffff_ffff).ok()?);
        let at = usize::try_from((high * blocks as u64) >> 32).ok()?;
        (blocks > 0).then(|| (at, Block(SALT.map(|salt| 1 << (low.wrapping_mul(salt) >> 27)))))
    }
}

/// Few sizes, so that filters can be looked through many at a time; an eighth larger at most.
fn rounded(blocks: usize) -> usize {
    blocks.next_multiple_of((blocks.next_power_of_two() / 16).max(1))
}

impl Block {
    /// All of these bits.
    pub fn has(&self, Self(bits): &Self) -> bool {
        // Without a branch for each word, so that it becomes a few instructions on all of them.
        self.0.iter().zip(bits).fold(0, |missing, (word, bit)| missing | (bit & !word)) == 0
    }

    fn set(&mut self, Self(bits): &Self) {
        for (word, bit) in self.0.iter_mut().zip(bits) {
            *word |= bit;
        }
    }
}

impl From<Filter> for String {
    fn from(filter: Filter) -> Self {
        let words = filter.blocks.iter().flat_map(|block| block.0);
        STANDARD.encode(words.flat_map(u32::to_le_bytes).collect::<Vec<u8>>())
    }
}

impl TryFrom<String> for Filter {
    type Error = InvalidFilter;

    fn try_from(text: String) -> Result<Self, InvalidFilter> {
        let bytes = STANDARD.decode(text).map_err(|_| InvalidFilter)?;
        if bytes.len() > MAX_FILTER || !bytes.len().is_multiple_of(size_of::<Block>()) {
            return Err(InvalidFilter);
        }
        let block = |bytes: &[u8]| {
            let mut words =
                bytes.chunks_exact(4).map(|word| word.iter().rev().fold(0, |all, b| all << 8 | u32::from(*b)));
            Block(std::array::from_fn(|_| words.next().unwrap_or_default()))
        };
        Ok(Self { blocks: bytes.chunks_exact(size_of::<Block>()).map(block).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(kind: &str, count: usize) -> Vec<Key> {
        (0..count).map(|n| Key::subject(&format!("{kind}{n}"))).collect()
    }

    #[test]
    fn what_is_in_it_is_never_denied_whatever_its_size() {
        for count in [1, 2, 9, 10, 300, 5_000, 60_000] {
            let inside = keys("in", count);
            let filter = Filter::of(&inside);
            assert!(filter.size() <= MAX_FILTER);
            let sent: Filter = serde_json::from_str(&serde_json::to_string(&filter).unwrap()).unwrap();
            assert_eq!(sent, filter);
            assert!(inside.iter().all(|key| sent.may_contain(*key)), "{count}");
        }
    }

    #[test]
    fn little_else_is_claimed() {
        for count in [10, 400, 30_000] {
            let filter = Filter::of(&keys("in", count));
            let wrong = keys("out", 100_000).into_iter().filter(|key| filter.may_contain(*key)).count();
            assert!(wrong < 200, "{wrong} of 100000 with {count} inside");
        }
        let empty = Filter::of(&[]);
        assert_eq!(empty.size(), 0);
        assert!(!keys("out", 1000).into_iter().any(|key| empty.may_contain(key)));
    }

    #[test]
    fn every_event_about_a_token_names_something_the_token_hangs_on() {
        let [id, sid]: [TokenId; 2] =
            ["0123456789ABCDEFGHIJKL", "0123456789ABCDEFGHIJKM"].map(|id| id.parse().unwrap());
        let held: Vec<Key> = Key::of_token(&id, Some(&sid), "ann", "shop/web").collect();
        for event in [
            Event::Revoked(Revoked::Id { id }),
            Event::Revoked(Revoked::Id { id: sid }),
            Event::Updated { id },
            Event::Updated { id: sid },
            Event::Revoked(Revoked::Subject { sub: "ann".into(), except: Some(id) }),
            Event::Revoked(Revoked::Client { client_id: "shop/web".into() }),
        ] {
            assert!(held.contains(&Key::of_event(&event).unwrap()), "{event:?}");
        }
        assert_eq!([Event::Keys, Event::Reset].map(|event| Key::of_event(&event)), [None, None]);
        assert_ne!(Key::subject("ann"), Key::client("ann"));
    }

    #[test]
    fn anything_but_whole_blocks_is_refused() {
        for text in ["AA==", "x", &STANDARD.encode([0; 33]), &STANDARD.encode(vec![0; MAX_FILTER + 32])] {
            assert!(Filter::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
