//! A document of somebody else's: had when first needed, and again when it is old or something is missing in it.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use tokio::sync::Mutex;

use crate::clock::Clock;

/// Made-up key ids, and people who try again, must not make us ask all the time. Seconds.
const ASK_AGAIN_AFTER: u64 = 10;
/// Asked for again at this age even if nothing is missing, so that withdrawn keys go. Seconds.
const REFRESH_AFTER: u64 = 300;

pub struct Fetched<T> {
    clock: Clock,
    known: ArcSwapOption<T>,
    /// Unix seconds of the last attempt and the last success; 0: none.
    asked: AtomicU64,
    had: AtomicU64,
    asking: Mutex<()>,
}

impl<T> Fetched<T> {
    pub fn nothing_yet(clock: Clock) -> Self {
        Self {
            clock,
            known: ArcSwapOption::empty(),
            asked: AtomicU64::new(0),
            had: AtomicU64::new(0),
            asking: Mutex::new(()),
        }
    }

    pub fn known(&self) -> Option<Arc<T>> {
        self.known.load_full()
    }

    pub fn is_old(&self) -> bool {
        self.clock.seconds() >= self.had.load(Ordering::Relaxed) + REFRESH_AFTER
    }

    /// Whether what is known is what was said when last asked.
    pub fn is_current(&self) -> bool {
        self.known.load().is_some() && self.had.load(Ordering::Relaxed) >= self.asked.load(Ordering::Relaxed)
    }

    /// Awaits `fetch`, unless somebody did a moment ago. One at a time; those who waited find what the first one got.
    pub async fn renew<E>(&self, fetch: impl Future<Output = Result<T, E>>) -> Result<(), E> {
        let _one_at_a_time = self.asking.lock().await;
        let now = self.clock.seconds();
        let asked = self.asked.load(Ordering::Relaxed);
        if asked != 0 && now < asked + ASK_AGAIN_AFTER {
            return Ok(());
        }
        self.asked.store(now, Ordering::Relaxed);
        let document = fetch.await?;
        self.known.store(Some(Arc::new(document)));
        self.had.store(now, Ordering::Relaxed);
        Ok(())
    }
}
