//! The event streams that are open at this replica, and what each of them is told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use cloakroom_protocol::interest::{Filter, Key};
use tokio::sync::mpsc;

use super::Signal;
use super::interest::{Interests, StreamId};

/// Signals that a slow connection may be behind; with more it ends, and the sidecar resumes where it was.
const BUFFER: usize = 4096;

#[derive(Default)]
pub struct Streams(RwLock<Table>);

#[derive(Default)]
struct Table {
    opened: u64,
    names: HashMap<String, StreamId>,
    open: HashMap<StreamId, Arc<Stream>>,
    interests: Interests,
}

pub struct Stream {
    id: StreamId,
    /// Known to its sidecar only.
    name: String,
    sidecar: String,
    /// `None`: it was too slow.
    signals: Mutex<Option<mpsc::Sender<Signal>>>,
}

impl Streams {
    /// It is told everything from now on.
    pub fn open(&self, name: String, sidecar: String) -> mpsc::Receiver<Signal> {
        let (signals, receiver) = mpsc::channel(BUFFER);
        let mut table = self.write();
        table.opened += 1;
        let id = StreamId(table.opened);
        let stream = Stream { id, name: name.clone(), sidecar, signals: Mutex::new(Some(signals)) };
        table.names.insert(name, id);
        table.open.insert(id, Arc::new(stream));
        table.interests.open(id);
        receiver
    }

    pub fn close(&self, name: &str) {
        let mut table = self.write();
        if let Some(id) = table.names.remove(name) {
            table.open.remove(&id);
            table.interests.close(id);
        }
    }

    pub fn find(&self, name: &str) -> Option<Arc<Stream>> {
        let table = self.read();
        table.open.get(table.names.get(name)?).cloned()
    }

    /// From when this returns, events about these keys are sent.
    pub fn asked(&self, stream: &Stream, generation: u64, keys: impl Iterator<Item = Key>) {
        self.write().interests.asked(stream.id, generation, keys);
    }

    pub fn declare(&self, stream: &Stream, generation: u64, filter: &Filter) {
        self.write().interests.declare(stream.id, generation, filter);
    }

    /// Tells those that an event may concern; `told` learns their sidecars, each before its stream is told.
    pub fn tell(&self, about: Option<Key>, signal: &Signal, mut told: impl FnMut(&str)) {
        let table = self.read();
        for stream in table.interests.concerned(about).iter().filter_map(|id| table.open.get(id)) {
            told(&stream.sidecar);
            stream.tell(signal);
        }
    }

    pub fn tell_all(&self, signal: &Signal) {
        self.tell(None, signal, |_| {});
    }

    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stream {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn is_of(&self, sidecar: &str) -> bool {
        self.sidecar == sidecar
    }

    fn tell(&self, signal: &Signal) {
        let mut signals = self.signals.lock().unwrap_or_else(PoisonError::into_inner);
        if signals.as_ref().is_some_and(|signals| signals.try_send(signal.clone()).is_err()) {
            *signals = None;
        }
    }
}
