//! HTTP/2 connections to the app, each of which carries many calls.

use std::cell::{Cell, RefCell};
use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use super::CallRequest;
use crate::http1::buffer::{Buffers, Lent};
use crate::http1::reply_head::MAX_REPLY_HEAD;
use crate::http2::LocalExecutor;
use crate::http2::body::CutShort;
use crate::http2::translation::Asked;
use crate::upstream::{self, UpstreamError};
use crate::worker::Worker;
use crate::worker::deadlines::Deadline;

/// On one connection; more get another one.
const CALLS: u32 = 64;
/// What a call's answer may hold here while its client takes nothing.
const STREAM_WINDOW: u32 = 32 << 10;
/// As much as all of them: clients that take nothing leave nobody else without.
const CONNECTION_WINDOW: u32 = CALLS * STREAM_WINDOW;

const SETTINGS_AGAIN: Duration = Duration::from_millis(1);

/// Those of a worker.
#[derive(Default)]
pub struct Channels {
    open: RefCell<Vec<Rc<Channel>>>,
    /// What many find missing at once is opened once.
    opening: Mutex<()>,
}

struct Channel {
    port: u16,
    sender: SendRequest<AppRequest>,
    calls: Cell<usize>,
    /// How many the app takes at once.
    room: Rc<Cell<usize>>,
}

/// What goes over them.
pub enum AppRequest {
    Call(CallRequest),
    /// Of an app that speaks nothing else.
    Translated(Asked),
}

impl Body for AppRequest {
    type Data = Bytes;
    type Error = CutShort;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, CutShort>>> {
        match self.get_mut() {
            Self::Call(body) => Pin::new(body).poll_frame(cx),
            Self::Translated(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Call(body) => body.is_end_stream(),
            Self::Translated(body) => body.is_end_stream(),
        }
    }
}

/// A call's place on a channel, for as long as the call lasts.
pub struct Place {
    channel: Rc<Channel>,
    /// What the app may send ahead.
    _lent: Lent,
}

impl Place {
    fn on(channel: Rc<Channel>, buffers: &Buffers) -> Self {
        channel.calls.set(channel.calls.get() + 1);
        Self { channel, _lent: buffers.lend(STREAM_WINDOW as usize) }
    }

    pub fn channel(&self) -> SendRequest<AppRequest> {
        self.channel.sender.clone()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.channel.calls.set(self.channel.calls.get() - 1);
    }
}

/// `seconds`: how long an app that takes connections may take to say that it speaks HTTP/2.
pub async fn place(worker: &Worker, port: u16, deadline: &Deadline, seconds: u64) -> Result<Place, UpstreamError> {
    let (channels, buffers) = (&worker.channels, &worker.buffers);
    if let Some(channel) = channels.find(port) {
        return Ok(Place::on(channel, buffers));
    }
    let _turn = channels.opening.lock().await;
    if let Some(channel) = channels.find(port) {
        return Ok(Place::on(channel, buffers));
    }
    let opening = timeout(Duration::from_secs(seconds), open(port, deadline));
    let channel = Rc::new(opening.await.map_err(|_| UpstreamError::TimedOut)??);
    channels.open.borrow_mut().push(Rc::clone(&channel));
    Ok(Place::on(channel, buffers))
}

impl Channels {
    /// One with room. Of those that carry nothing, one stays for each port.
    fn find(&self, port: u16) -> Option<Rc<Channel>> {
        let mut open = self.open.borrow_mut();
        let mut first = true;
        open.retain(|channel| {
            let stays = !channel.sender.is_closed() && (channel.port != port || first || channel.calls.get() > 0);
            first &= channel.port != port || !stays;
            stays
        });
        open.iter().find(|channel| channel.port == port && channel.has_room()).map(Rc::clone)
    }
}

impl Channel {
    fn has_room(&self) -> bool {
        self.calls.get() < (CALLS as usize).min(self.room.get())
    }
}

async fn open(port: u16, deadline: &Deadline) -> Result<Channel, UpstreamError> {
    let stream = upstream::connect(port, deadline).await?.stream;
    let mut builder = http2::Builder::new(LocalExecutor);
    builder.initial_stream_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
    builder.max_header_list_size(u32::try_from(MAX_REPLY_HEAD).unwrap_or(u32::MAX));
    // Until the app's settings say how many calls it takes at once (RFC 9113 §6.5.2), nobody knows.
    builder.initial_max_send_streams(0);
    let (sender, mut connection) = builder.handshake(TokioIo::new(stream)).await.map_err(|_| UpstreamError::Closed)?;
    // hyper tells nobody when they have come.
    while connection.current_max_send_streams() == 0 {
        if poll_fn(|cx| Poll::Ready(Pin::new(&mut connection).poll(cx).is_ready())).await {
            return Err(UpstreamError::Closed);
        }
        sleep(SETTINGS_AGAIN).await;
    }
    let room = Rc::new(Cell::new(connection.current_max_send_streams()));
    let told = Rc::clone(&room);
    tokio::task::spawn_local(poll_fn(move |cx| {
        told.set(connection.current_max_send_streams());
        // Whoever waits for an answer on it learns of its end from there.
        Pin::new(&mut connection).poll(cx).map(drop)
    }));
    Ok(Channel { port, sender, calls: Cell::new(0), room })
}
