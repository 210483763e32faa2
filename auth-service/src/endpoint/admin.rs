//! `/admin/v1`: users, sessions, clients, API keys, signing keys; JSON, for administrators.

pub mod api_keys;
pub mod clients;
pub mod keys;
pub mod sessions;
pub mod users;

use serde::{Deserialize, Serialize};

use super::internal::revoke::SETTLE_WITHIN;

/// Page of a list.
#[derive(Clone, Copy, Deserialize)]
pub struct Paging {
    #[serde(default)]
    pub offset: usize,
    #[serde(default = "default_limit")]
    pub limit: usize,
}

const MAX_LIMIT: usize = 500;

fn default_limit() -> usize {
    100
}

impl Paging {
    fn limit(self) -> usize {
        self.limit.clamp(1, MAX_LIMIT)
    }
}

#[derive(Serialize)]
pub struct List<T> {
    pub items: Vec<T>,
    /// Where the next page starts; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_offset: Option<usize>,
}

impl<T> List<T> {
    fn page(items: Vec<T>, paging: Paging) -> Self {
        let next_offset = (items.len() == paging.limit()).then(|| paging.offset + items.len());
        Self { items, next_offset }
    }
}

/// `?wait=<ms>` of whatever revokes.
#[derive(Clone, Copy, Deserialize)]
pub struct Wait {
    #[serde(default = "default_wait")]
    pub wait: u64,
}

fn default_wait() -> u64 {
    SETTLE_WITHIN
}
