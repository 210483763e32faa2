//! Answers on their way back to the thread that asked. What arrives together wakes it once: waking another thread costs as much as
//! half a request.

use std::cell::RefCell;
use std::sync::{Arc, Mutex};

use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use super::exchange::Outcome;
use super::lock;

thread_local! {
    static HERE: RefCell<Option<Arc<Postbox>>> = const { RefCell::new(None) };
}

#[derive(Default)]
struct Postbox {
    letters: Mutex<Vec<Letter>>,
    came: Notify,
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

/// Hands out what comes for this thread, for as long as its runtime lives.
pub fn open() -> JoinHandle<()> {
    let postbox = Arc::<Postbox>::default();
    HERE.set(Some(postbox.clone()));
    tokio::task::spawn_local(async move {
        loop {
            postbox.came.notified().await;
            for Letter { to, outcome } in std::mem::take(&mut *lock(&postbox.letters)) {
                // Some have gone.
                let _ = to.send(outcome);
            }
        }
    })
}

/// Whoever is called on this thread, and where the answer will be.
pub fn address() -> (Addressee, oneshot::Receiver<Outcome>) {
    let (to, answer) = oneshot::channel();
    (Addressee { to, postbox: HERE.with_borrow(Clone::clone) }, answer)
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
