//! Ends what stays open (WebSockets, event streams, gRPC calls) when the token that opened it dies.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Whether a token still lives; shared by every identity made from it and everything opened with it.
#[derive(Default)]
pub struct Life {
    over: AtomicBool,
    ended: Notify,
}

impl Life {
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    pub fn end(&self) {
        self.over.store(true, Ordering::Release);
        self.ended.notify_waiters();
    }

    /// Completes once the token was revoked or has expired; what stays open must be closed then.
    pub async fn over(&self) {
        loop {
            let ended = self.ended.notified();
            if self.is_over() {
                return;
            }
            ended.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn whoever_waits_and_whoever_comes_late_learns_of_the_end() {
        let life = Arc::new(Life::default());
        let waiting = tokio::spawn({
            let life = life.clone();
            async move { life.over().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        life.end();
        waiting.await.unwrap();
        life.over().await;
        assert!(life.is_over());
    }
}
