//! What goes between the threads that serve and the one that asks. What a thread has at the same moment goes together and wakes the other
//! one once: that costs as much as half a request, and questions that are put together cost less than each alone.

use std::cell::RefCell;
use std::sync::{Arc, Mutex};

use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use super::exchange::Outcome;
use super::lock;

thread_local! {
    static HERE: RefCell<Option<Arc<Postbox>>> = const { RefCell::new(None) };
}

/// A thread's.
#[derive(Default)]
struct Postbox {
    letters: Mutex<Vec<Letter>>,
    came: Notify,
    /// Who is to be woken when everything that can go on here has done so.
    leaving: Mutex<Option<Arc<Notify>>>,
    leave: Notify,
}

struct Letter {
    to: oneshot::Sender<Outcome>,
    outcome: Outcome,
}

/// Somebody who waits for an answer.
pub struct Addressee {
    to: oneshot::Sender<Outcome>,
    /// Of the thread that asked, if it has one.
    postbox: Option<Arc<Postbox>>,
}

/// Hands out what comes for this thread and sees off what leaves it, for as long as its runtime lives.
pub fn open() -> JoinHandle<()> {
    let postbox = Arc::<Postbox>::default();
    HERE.set(Some(postbox.clone()));
    tokio::task::spawn_local(async move {
        tokio::join!(postbox.hand_out(), postbox.see_off());
    })
}

/// Whoever is called on this thread, and where the answer will be.
pub fn address() -> (Addressee, oneshot::Receiver<Outcome>) {
    let (to, answer) = oneshot::channel();
    (Addressee { to, postbox: HERE.with_borrow(Clone::clone) }, answer)
}

/// Wakes whoever waits for `there`: not before the tasks of this thread that are ready have had their turn, since they may have
/// something for the same.
pub fn wake(there: &Arc<Notify>) {
    HERE.with_borrow(|here| match here {
        Some(postbox) => {
            let before = lock(&postbox.leaving).replace(there.clone());
            if let Some(other) = before.filter(|other| !Arc::ptr_eq(other, there)) {
                other.notify_one();
            }
            postbox.leave.notify_one();
        }
        None => there.notify_one(),
    });
}

impl Postbox {
    async fn hand_out(&self) {
        loop {
            self.came.notified().await;
            for Letter { to, outcome } in std::mem::take(&mut *lock(&self.letters)) {
                // Some have gone.
                let _ = to.send(outcome);
            }
        }
    }

    async fn see_off(&self) {
        loop {
            self.leave.notified().await;
            if let Some(there) = lock(&self.leaving).take() {
                there.notify_one();
            }
        }
    }
}

impl Addressee {
    pub fn tell(self, outcome: Outcome) {
        let Self { to, postbox } = self;
        match postbox {
            Some(postbox) => {
                lock(&postbox.letters).push(Letter { to, outcome });
                postbox.came.notify_one();
            }
            None => drop(to.send(outcome)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Poll;
    use std::time::Duration;

    use tokio::task::{LocalSet, spawn_local};
    use tokio::time::timeout;

    use super::*;

    async fn is_woken(there: &Notify) -> bool {
        let mut notified = pin!(there.notified());
        poll_fn(|cx| Poll::Ready(notified.as_mut().poll(cx).is_ready())).await
    }

    #[tokio::test]
    async fn nobody_is_woken_before_all_who_are_ready_have_had_their_turn() {
        LocalSet::new()
            .run_until(async {
                let postbox = open();
                let there = Arc::new(Notify::new());
                let first = spawn_local({
                    let there = there.clone();
                    async move { wake(&there) }
                });
                let second = spawn_local({
                    let there = there.clone();
                    async move { is_woken(&there).await }
                });
                first.await.unwrap();
                assert!(!second.await.unwrap());
                timeout(Duration::from_secs(10), there.notified()).await.unwrap();
                assert!(!is_woken(&there).await, "once is enough");
                postbox.abort();
            })
            .await;
    }

    #[tokio::test]
    async fn who_waits_for_something_else_is_not_forgotten() {
        LocalSet::new()
            .run_until(async {
                let postbox = open();
                let [one, other] = [(); 2].map(|()| Arc::new(Notify::new()));
                wake(&one);
                wake(&other);
                for there in [one, other] {
                    timeout(Duration::from_secs(10), there.notified()).await.unwrap();
                }
                postbox.abort();
            })
            .await;
    }
}
