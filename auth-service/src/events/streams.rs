//! The event streams that are open at this replica, and what each of them is told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use cloakroom_protocol::interest::{Filter, Key};
use tokio::sync::mpsc;

use super::Signal;
use super::interest::Interest;

/// Signals that a slow connection may be behind; with more it ends, and the sidecar resumes where it was.
const BUFFER: usize = 4096;

#[derive(Default)]
pub struct Streams(RwLock<HashMap<String, Arc<Stream>>>);

pub struct Stream {
    /// Known to its sidecar only.
    name: String,
    sidecar: String,
    state: Mutex<State>,
}

struct State {
    interest: Interest,
    /// `None`: it was too slow.
    signals: Option<mpsc::Sender<Signal>>,
}

impl Streams {
    /// It is told everything from now on.
    pub fn open(&self, name: String, sidecar: String) -> mpsc::Receiver<Signal> {
        let (signals, receiver) = mpsc::channel(BUFFER);
        let state = Mutex::new(State { interest: Interest::default(), signals: Some(signals) });
        let stream = Arc::new(Stream { name: name.clone(), sidecar, state });
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(name, stream);
        receiver
    }

    pub fn close(&self, name: &str) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    pub fn find(&self, name: &str) -> Option<Arc<Stream>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Tells those that an event may concern; `told` learns their sidecars, each before its stream is told.
    pub fn tell(&self, about: Option<Key>, signal: &Signal, mut told: impl FnMut(&str)) {
        for stream in self.0.read().unwrap_or_else(PoisonError::into_inner).values() {
            let mut state = stream.lock();
            if state.interest.wants(about) {
                told(&stream.sidecar);
                state.tell(signal);
            }
        }
    }

    pub fn tell_all(&self, signal: &Signal) {
        self.tell(None, signal, |_| {});
    }
}

impl Stream {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn is_of(&self, sidecar: &str) -> bool {
        self.sidecar == sidecar
    }

    /// From when this returns, events about these keys are sent.
    pub fn asked(&self, generation: u64, keys: impl Iterator<Item = Key>) {
        self.lock().interest.asked(generation, keys);
    }

    pub fn declare(&self, generation: u64, filter: Filter) {
        self.lock().interest.declare(generation, filter);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn tell(&mut self, signal: &Signal) {
        if self.signals.as_ref().is_some_and(|signals| signals.try_send(signal.clone()).is_err()) {
            self.signals = None;
        }
    }
}
