//! How much memory clients of the public port may take. What they send that is not whole, what is made of it and what they do not take is
//! counted; beyond the limit further clients go without, and nothing that is under way is lost.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::{Buf, Bytes};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use prometheus_client::metrics::counter::Counter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// State of a connection without requests, with its keys, measured generously.
const CONNECTION: usize = 32 << 10;
/// State of a request, beside what it says.
const REQUEST: usize = 16 << 10;
/// Of answers, whoever reads them: pages, documents, keys.
const ANSWER: usize = 16 << 10;
/// Where nobody says how much there is.
const MEMORY_WITHOUT_LIMIT: usize = 512 << 20;
/// Longer than any answer takes to be made. All of the port's are small.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often connections are looked at.
const LOOK: Duration = Duration::from_secs(5);

#[derive(Clone)]
pub struct Room {
    taken: Arc<AtomicUsize>,
    /// Bytes.
    limit: usize,
    turned_away: Counter,
}

impl Room {
    /// `turned_away` counts what there was no room for.
    pub fn new(limit: usize, turned_away: Counter) -> Self {
        Self { taken: Arc::default(), limit, turned_away }
    }

    /// Three eighths of what the process may take, by `CLOAKROOM_MEMORY` (bytes): the rest is for sidecars, passwords being checked, and itself.
    pub fn of_this_process(turned_away: Counter) -> Self {
        let memory = std::env::var("CLOAKROOM_MEMORY").ok().and_then(|bytes| bytes.parse::<usize>().ok());
        Self::new(memory.filter(|bytes| *bytes > 0).unwrap_or(MEMORY_WITHOUT_LIMIT) / 8 * 3, turned_away)
    }

    /// `None` where there is not so much.
    pub fn take(&self, bytes: usize) -> Option<Share> {
        let mut share = Share { room: self.clone(), bytes: 0 };
        share.grow(bytes).then_some(share)
    }
}

/// Bytes of the room, for as long as this lives.
pub struct Share {
    room: Room,
    bytes: usize,
}

impl Share {
    fn grow(&mut self, bytes: usize) -> bool {
        let before = self.room.taken.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        let fits = before + bytes <= self.room.limit;
        if !fits {
            self.room.turned_away.inc();
        }
        fits
    }

    fn clear(&mut self) {
        self.room.taken.fetch_sub(std::mem::take(&mut self.bytes), Ordering::Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.clear();
    }
}

/// What one connection has taken.
pub struct Guest {
    room: Room,
    _connection: Share,
    /// What was read since the last request was whole.
    unread: Mutex<Share>,
    /// Requests whose answers have not left.
    open: AtomicUsize,
    began: Instant,
    /// When there were none last, or one was whole: milliseconds since `began`.
    moved: AtomicU64,
    /// Those of answers that hyper has all of, until it has written what can be written; `None` once the connection is over.
    leaving: Mutex<Option<Vec<Arc<Stay>>>>,
}

impl Guest {
    /// `None`: this one has to go.
    pub fn enter(room: &Room) -> Option<Arc<Self>> {
        Some(Arc::new(Self {
            room: room.clone(),
            _connection: room.take(CONNECTION)?,
            unread: Mutex::new(room.take(0)?),
            open: AtomicUsize::new(0),
            began: Instant::now(),
            moved: AtomicU64::new(0),
            leaving: Mutex::new(Some(Vec::new())),
        }))
    }

    /// A request's stay; `None` where there is no room for it.
    pub fn admit<B: HttpBody>(self: &Arc<Self>, request: &http::Request<B>, most: usize) -> Option<Arc<Stay>> {
        self.unread().clear();
        let head: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
        let body = match request.body().size_hint().upper() {
            Some(length) => usize::try_from(length).unwrap_or(usize::MAX).min(most),
            None => most,
        };
        let share = self.room.take(REQUEST + ANSWER + 2 * (head + target) + body)?;
        if self.open.fetch_add(1, Ordering::Relaxed) == 0 {
            self.progress();
        }
        Some(Arc::new(Stay { guest: Arc::clone(self), _share: share }))
    }

    /// Ends when an answer has been left untaken for too long, and no other was taken meanwhile.
    pub async fn overstays(&self) {
        loop {
            tokio::time::sleep(LOOK).await;
            let moved = Duration::from_millis(self.moved.load(Ordering::Relaxed));
            if self.open.load(Ordering::Relaxed) > 0 && self.began.elapsed().saturating_sub(moved) > PATIENCE {
                return;
            }
        }
    }

    /// The connection is over.
    pub fn leave(&self) {
        let left = self.leaving().take();
        drop(left);
    }

    fn leaving(&self) -> MutexGuard<'_, Option<Vec<Arc<Stay>>>> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn progress(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved.store(now, Ordering::Relaxed);
    }

    fn unread(&self) -> MutexGuard<'_, Share> {
        self.unread.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request's, until its answer has left.
pub struct Stay {
    guest: Arc<Guest>,
    _share: Share,
}

impl Drop for Stay {
    fn drop(&mut self) {
        self.guest.open.fetch_sub(1, Ordering::Relaxed);
        self.guest.progress();
    }
}

/// A client's stream, of which what it sends is counted. No one says how much of it is being kept, but all that comes before a request is.
pub struct Counted<S> {
    stream: S,
    guest: Arc<Guest>,
}

impl<S> Counted<S> {
    pub fn new(stream: S, guest: Arc<Guest>) -> Self {
        Self { stream, guest }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let count = buffer.filled().len() - before;
        if self.guest.unread().grow(count) {
            return Poll::Ready(Ok(()));
        }
        Poll::Ready(Err(io::Error::new(io::ErrorKind::OutOfMemory, "clients take all the memory that is for them")))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        let left = self.guest.leaving().as_mut().map(std::mem::take);
        // Not while it is locked: what is dropped may be the last to hold the guest.
        drop(left);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// An answer's body, each piece of which keeps its request's stay until it has left: hyper takes all of it long before a client does that
/// takes nothing.
pub struct Answer {
    body: Body,
    stay: Option<Arc<Stay>>,
}

impl Answer {
    pub fn new(body: Body, stay: Option<Arc<Stay>>) -> Self {
        Self { body, stay }
    }
}

impl HttpBody for Answer {
    type Data = Piece;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Piece>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        polled.map_ok(|frame| frame.map_data(|bytes| Piece { bytes, _stay: self.stay.clone() }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let Some(stay) = self.stay.take() else { return };
        let guest = Arc::clone(&stay.guest);
        let mut leaving = guest.leaving();
        if let Some(leaving) = leaving.as_mut() {
            leaving.push(stay);
        }
    }
}

pub struct Piece {
    bytes: Bytes,
    _stay: Option<Arc<Stay>>,
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_given_back_and_no_more_is_taken_than_there_is() {
        let room = Room::new(CONNECTION + 2 * (REQUEST + ANSWER) + 100, Counter::default());
        let guest = Guest::enter(&room).unwrap();
        assert!(Guest::enter(&room).is_some());
        let request = |length: usize| http::Request::new(Body::from(vec![0; length]));
        let first = guest.admit(&request(10), 64).unwrap();
        let second = guest.admit(&request(50), 64).unwrap();
        assert!(guest.admit(&request(0), 64).is_none());
        assert_eq!(room.turned_away.get(), 1);
        assert_eq!(guest.open.load(Ordering::Relaxed), 2);
        drop((first, second));
        assert_eq!((guest.open.load(Ordering::Relaxed), room.taken.load(Ordering::Relaxed)), (0, CONNECTION));
        drop(guest);
        assert_eq!(room.taken.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_was_sent_counts_until_a_request_is_whole() {
        let room = Room::new(1 << 20, Counter::default());
        let guest = Guest::enter(&room).unwrap();
        assert!(guest.unread().grow(1000));
        assert!(!guest.unread().grow(1 << 20));
        let stay = guest.admit(&http::Request::new(Body::empty()), 64).unwrap();
        assert_eq!(room.taken.load(Ordering::Relaxed), CONNECTION + REQUEST + ANSWER + 2 * "/".len());
        drop(stay);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_keeps_its_stay_until_its_last_piece_has_left() {
        use http_body_util::BodyExt as _;
        let room = Room::new(1 << 20, Counter::default());
        let guest = Guest::enter(&room).unwrap();
        let stay = guest.admit(&http::Request::new(Body::empty()), 64);
        let mut answer = Answer::new(Body::from("answer"), stay);
        let piece = answer.frame().await.unwrap().unwrap().into_data().ok().unwrap();
        drop(answer);
        guest.leave();
        assert_eq!((piece.chunk(), guest.open.load(Ordering::Relaxed)), (&b"answer"[..], 1));
        drop(piece);
        assert_eq!(guest.open.load(Ordering::Relaxed), 0);
    }
}
