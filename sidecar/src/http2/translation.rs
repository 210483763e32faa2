//! An app that speaks HTTP/2 and nothing else, asked in HTTP/1.1. Requests of either version go their usual way, and what leaves for the
//! app is put into HTTP/2 behind a pair of sockets, on the connections that gRPC calls use: nothing of that way has to know.

use std::cell::RefCell;
use std::future::{Future as _, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Response};
use hyper::body::{Body, Frame, Incoming};
use socket2::SockRef;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::app_body::append;
use super::body::CutShort;
use super::grpc::channels::{AppRequest, Place};
use super::head::{MAX_WRITTEN_FIELDS, onward};
use crate::http1::buffer::Buffer;
use crate::http1::chunked::{ChunkedDecoder, Piece, trailer_fields, write_chunk};
use crate::http1::local::write_status;
use crate::http1::request_head;
use crate::request::forward::{Framing, write_field};
use crate::request::head::{Field, Known};
use crate::worker::Worker;

/// What waits between the two versions, each way.
const SOCKET: usize = 32 << 10;
/// With the state of a translation, measured generously.
const HELD: usize = 2 * SOCKET + (8 << 10);

/// A connection that takes one request in HTTP/1.1. It ends like any other: whoever drops it gives the request up.
pub fn open(worker: &Rc<Worker>, place: Place) -> io::Result<TcpStream> {
    let (ours, theirs) = pair()?;
    let worker = Rc::clone(worker);
    tokio::task::spawn_local(async move {
        let _lent = worker.buffers.lend(HELD);
        // However it ends before its time, the other side sees the connection end, and knows what that means.
        let _ = translate(theirs, &place, &worker).await;
    });
    Ok(ours)
}

/// Streams like any other to whoever reads and writes them.
fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let stream = |socket: UnixStream| {
        socket.set_nonblocking(true)?;
        SockRef::from(&socket).set_send_buffer_size(SOCKET)?;
        TcpStream::from_std(OwnedFd::from(socket).into())
    };
    let (one, other) = UnixStream::pair()?;
    Ok((stream(one)?, stream(other)?))
}

async fn translate(socket: TcpStream, place: &Place, worker: &Rc<Worker>) -> Result<(), CutShort> {
    let (from, mut to) = socket.into_split();
    let asking = Rc::new(Asking { state: RefCell::default(), worker: Rc::clone(worker) });
    asking.state.borrow_mut().from = Some(from);
    let head = poll_fn(|cx| asking.poll_head(cx)).await?;
    let to_head = *head.method() == http::Method::HEAD;
    let body = if asking.state.borrow().left.is_some() { Asked::some(&asking) } else { Asked::none() };
    if head.headers().contains_key(http::header::EXPECT) {
        // The app has no such word for it: it gets the body as far as it takes it.
        to.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.map_err(|_| CutShort)?;
    }
    let mut request = head.map(|()| AppRequest::Translated(body));
    request.headers_mut().remove(http::header::EXPECT);
    let mut channel = place.channel();
    let mut answering = pin!(channel.send_request(request));
    let answer = asking.unless_given_up(|cx| answering.as_mut().poll(cx)).await?.map_err(|_| CutShort)?;
    answer_with(answer, to_head, &asking, to).await
}

async fn answer_with(
    answer: Response<Incoming>,
    to_head: bool,
    asking: &Asking,
    mut to: OwnedWriteHalf,
) -> Result<(), CutShort> {
    let (parts, mut body) = answer.into_parts();
    if parts.status.is_informational() {
        return Err(CutShort);
    }
    let bodyless = to_head || matches!(parts.status.as_u16(), 204 | 304);
    let chunked = !bodyless && !parts.headers.contains_key(CONTENT_LENGTH);
    let mut out = Vec::new();
    write_status(parts.status.as_u16(), &mut out);
    write_fields(&parts.headers, &mut out);
    out.extend_from_slice(if chunked { b"Transfer-Encoding: chunked\r\n" } else { b"" });
    // The next one gets a translation of its own.
    out.extend_from_slice(b"Connection: close\r\n\r\n");
    to.write_all(&out).await.map_err(|_| CutShort)?;
    if bodyless {
        return Ok(());
    }
    loop {
        let frame = asking.unless_given_up(|cx| Pin::new(&mut body).poll_frame(cx)).await?;
        out.clear();
        let ends = write_frame(frame.transpose().map_err(|_| CutShort)?, chunked, &mut out);
        to.write_all(&out).await.map_err(|_| CutShort)?;
        if ends {
            return Ok(());
        }
    }
}

/// As a chunk, where the app does not say how long its answer is. Says whether it was the last.
fn write_frame(frame: Option<Frame<Bytes>>, chunked: bool, out: &mut Vec<u8>) -> bool {
    let rest = match frame.map(Frame::into_data) {
        Some(Ok(data)) => {
            if chunked {
                write_chunk(&data, out);
            } else {
                out.extend_from_slice(&data);
            }
            return false;
        }
        rest => rest.and_then(Result::err),
    };
    if chunked {
        out.extend_from_slice(b"0\r\n");
        if let Some(Ok(trailers)) = rest.map(Frame::into_trailers) {
            write_fields(&trailers, out);
        }
        out.extend_from_slice(b"\r\n");
    }
    true
}

/// Those that belong to the message.
fn write_fields(headers: &HeaderMap, out: &mut Vec<u8>) {
    let stays = |name: &str| match Known::of(name) {
        Some(Known::ContentLength) | None => true,
        Some(known) => !known.is_per_hop(),
    };
    for (name, value) in headers.iter().filter(|(name, _)| stays(name.as_str())) {
        write_field(name.as_str().as_bytes(), value.as_bytes(), out);
    }
}

/// Where the request comes from; shared by whoever sends its body on and whoever waits for the answer.
struct Asking {
    state: RefCell<State>,
    worker: Rc<Worker>,
}

#[derive(Default)]
struct State {
    from: Option<OwnedReadHalf>,
    read: Buffer,
    /// Of the body; absent once nobody sends it on any more.
    left: Option<Left>,
    /// To be told when that is so.
    waiting: Option<Waker>,
}

enum Left {
    Length(u64),
    Chunks(ChunkedDecoder),
}

impl State {
    /// False: the other end has finished.
    fn poll_read(&mut self, cx: &mut Context<'_>, worker: &Worker) -> Poll<bool> {
        let Some(from) = &mut self.from else { return Poll::Ready(false) };
        if self.read.is_full() {
            self.read.grow(2 * self.read.capacity(), &worker.buffers);
        }
        let polled = self.read.poll_fill_from_pool(cx, from, &worker.buffers);
        polled.map(|read| matches!(read, Ok(1..)))
    }

    fn ends(&mut self) {
        self.left = None;
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
    }
}

impl Asking {
    fn poll_head(&self, cx: &mut Context<'_>) -> Poll<Result<http::Request<()>, CutShort>> {
        let mut state = self.state.borrow_mut();
        loop {
            if !ready!(state.poll_read(cx, &self.worker)) {
                return Poll::Ready(Err(CutShort));
            }
            let mut store = [const { std::mem::MaybeUninit::uninit() }; MAX_WRITTEN_FIELDS];
            let Some(message) = request_head::parse(state.read.filled(), &mut store).map_err(|_| CutShort)? else {
                continue;
            };
            let (framing, length) = (message.framing, message.length);
            let request = onward(&message.head, ()).map_err(|_| CutShort)?;
            state.read.consume(length);
            state.left = match framing {
                Framing::None | Framing::Length(0) => None,
                Framing::Length(length) => Some(Left::Length(length)),
                Framing::Chunked => Some(Left::Chunks(ChunkedDecoder::default())),
            };
            return Poll::Ready(Ok(request));
        }
    }

    /// Until then, or until nobody waits for it any more.
    async fn unless_given_up<T>(&self, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Result<T, CutShort> {
        poll_fn(|cx| if self.is_given_up(cx) { Poll::Ready(Err(CutShort)) } else { poll(cx).map(Ok) }).await
    }

    fn is_given_up(&self, cx: &mut Context<'_>) -> bool {
        let mut state = self.state.borrow_mut();
        if state.left.is_some() {
            // Whoever sends the body on will see it.
            state.waiting = Some(cx.waker().clone());
            return false;
        }
        loop {
            // What comes now is the rest of a body that the app did not want.
            state.read.clear();
            match state.poll_read(cx, &self.worker) {
                Poll::Ready(true) => {}
                Poll::Ready(false) => return true,
                Poll::Pending => return false,
            }
        }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.worker.buffers.give_back(std::mem::take(&mut self.state.borrow_mut().read));
    }
}

/// The request's body, as HTTP/2 takes it.
pub struct Asked(Option<Rc<Asking>>);

impl Asked {
    fn none() -> Self {
        Self(None)
    }

    fn some(asking: &Rc<Asking>) -> Self {
        Self(Some(Rc::clone(asking)))
    }
}

impl Body for Asked {
    type Data = Bytes;
    type Error = CutShort;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, CutShort>>> {
        let Some(asking) = &self.0 else { return Poll::Ready(None) };
        let frame = loop {
            let state = &mut *asking.state.borrow_mut();
            match take(state) {
                Err(CutShort) => break Some(Err(CutShort)),
                Ok(Taken::Frame(frame)) => break Some(Ok(frame)),
                Ok(Taken::End(trailers)) => {
                    state.ends();
                    break trailers.map(Frame::trailers).map(Ok);
                }
                Ok(Taken::Nothing) => {}
            }
            if !ready!(state.poll_read(cx, &asking.worker)) {
                break Some(Err(CutShort));
            }
        };
        let is_last = asking.state.borrow().left.is_none();
        if is_last {
            self.0 = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if let Some(asking) = &self.0 {
            asking.state.borrow_mut().ends();
        }
    }
}

enum Taken {
    Frame(Frame<Bytes>),
    End(Option<HeaderMap>),
    /// More has to be read first.
    Nothing,
}

/// What there is of the body.
fn take(state: &mut State) -> Result<Taken, CutShort> {
    let State { read, left, .. } = state;
    let input = read.filled();
    match left {
        None | Some(Left::Length(0)) => Ok(Taken::End(None)),
        Some(Left::Length(left)) => {
            let count = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
            if count == 0 {
                return Ok(Taken::Nothing);
            }
            let data = Bytes::copy_from_slice(&input[..count]);
            *left -= count as u64;
            read.consume(count);
            Ok(Taken::Frame(Frame::data(data)))
        }
        Some(Left::Chunks(decoder)) => loop {
            match decoder.next(read.filled()).map_err(|_| CutShort)? {
                Piece::Skip(count) => read.consume(count),
                Piece::Data(count) => {
                    let data = Bytes::copy_from_slice(&read.filled()[..count]);
                    read.consume(count);
                    return Ok(Taken::Frame(Frame::data(data)));
                }
                Piece::Trailers(count) => {
                    let fields = trailer_fields(&read.filled()[..count]).map_err(|_| CutShort)?;
                    return Ok(Taken::End((!fields.is_empty()).then(|| as_map(&fields))));
                }
                Piece::NeedMore => return Ok(Taken::Nothing),
            }
        },
    }
}

fn as_map(fields: &[Field<'_>]) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(fields.len());
    for field in fields {
        append(&mut map, field.name, field.value);
    }
    map
}
