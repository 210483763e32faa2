//! What a client's bytes come and go over: a socket, or TLS over one.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, tcp};

use crate::tls::pair::Pair;
use crate::tls::stream::TlsStream;
use crate::worker::Worker;
use crate::worker::deadlines::Deadline;

pub enum ClientStream {
    Plain(TcpStream),
    /// In a cell, so that both halves can be used in turn.
    Tls(Box<RefCell<TlsStream>>),
}

impl ClientStream {
    pub fn tls(socket: TcpStream, pair: &Pair, worker: Rc<Worker>) -> Result<Self, rustls::Error> {
        Ok(Self::Tls(Box::new(RefCell::new(TlsStream::new(socket, pair, worker)?))))
    }

    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Without a buffer; over TLS it may turn out that there is nothing to read after all.
    pub fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(socket) => socket.poll_read_ready(cx),
            Self::Tls(stream) => stream.get_mut().poll_read_ready(cx),
        }
    }

    /// Drops what the socket has received, as far as it has. A socket closed with unread bytes is reset, and the client may not get to
    /// read our last words.
    pub fn discard_unread(&mut self) {
        let socket = match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.get_mut().socket(),
        };
        let mut unread = [0; 2048];
        for _ in 0..8 {
            if socket.try_read(&mut unread).map_or(0, |count| count) < unread.len() {
                break;
            }
        }
    }

    /// Who does not take it at once goes without.
    pub fn say_at_once(&mut self, words: &[u8]) {
        match self {
            Self::Plain(socket) => drop(socket.try_write(words)),
            Self::Tls(stream) => {
                let stream = stream.get_mut();
                let _ = stream.poll_write(&mut Context::from_waker(Waker::noop()), &[IoSlice::new(words)]);
                stream.part();
            }
        }
    }

    /// The client is told that nothing is missing, where the protocol can say so.
    pub fn part(&mut self) {
        match self {
            Self::Plain(_) => {}
            Self::Tls(stream) => stream.get_mut().part(),
        }
    }

    /// The client is told that something is missing, by a reset; over TLS the missing `close_notify` says it.
    pub fn reset_at_end(&self) {
        if let Self::Plain(socket) = self {
            // A client that is gone needs to be told nothing.
            let _ = socket.set_zero_linger();
        }
    }

    pub fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        match self {
            Self::Plain(socket) => {
                let (read, write) = socket.split();
                (ReadHalf::Plain(read), WriteHalf::Plain(write))
            }
            Self::Tls(stream) => (ReadHalf::Tls(stream), WriteHalf::Tls(stream)),
        }
    }
}

/// Whom an answer is for.
pub trait Client: AsyncWrite + Unpin {
    /// Until the client is gone. One that has merely finished speaking is not: it may be listening.
    fn poll_gone(&mut self, cx: &mut Context<'_>, deadline: &Deadline) -> Poll<()>;
}

impl Client for ClientStream {
    fn poll_gone(&mut self, cx: &mut Context<'_>, deadline: &Deadline) -> Poll<()> {
        match self {
            Self::Plain(socket) => poll_reset(socket, cx, deadline),
            Self::Tls(stream) => poll_reset(stream.get_mut().socket(), cx, deadline),
        }
    }
}

impl Client for WriteHalf<'_> {
    fn poll_gone(&mut self, cx: &mut Context<'_>, deadline: &Deadline) -> Poll<()> {
        match self {
            Self::Plain(socket) => poll_reset(socket.as_ref(), cx, deadline),
            Self::Tls(stream) => poll_reset(stream.borrow().socket(), cx, deadline),
        }
    }
}

/// Without a system call: what is known of the socket's state is enough.
fn poll_reset(socket: &TcpStream, cx: &mut Context<'_>, deadline: &Deadline) -> Poll<()> {
    if socket.poll_read_ready(cx).is_pending() {
        return Poll::Pending;
    }
    if socket.try_io(Interest::ERROR, || Ok(())).is_ok() {
        return Poll::Ready(());
    }
    // There is something else to read, or the end of it, and nothing wakes for a reset that comes behind that.
    deadline.look_again(cx);
    Poll::Pending
}

pub enum ReadHalf<'s> {
    Plain(tcp::ReadHalf<'s>),
    Tls(&'s RefCell<TlsStream>),
}

pub enum WriteHalf<'s> {
    Plain(tcp::WriteHalf<'s>),
    Tls(&'s RefCell<TlsStream>),
}

impl AsyncRead for ClientStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().split().0).poll_read(cx, into)
    }
}

impl AsyncRead for ReadHalf<'_> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, into),
            Self::Tls(stream) => stream.borrow_mut().poll_read(cx, into),
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().split().1).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().split().1).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().split().1).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().split().1).poll_shutdown(cx)
    }
}

impl AsyncWrite for WriteHalf<'_> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Tls(stream) => stream.borrow_mut().poll_write(cx, &[IoSlice::new(bytes)]),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
            Self::Tls(stream) => stream.borrow_mut().poll_write(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(stream) => stream.borrow_mut().poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(stream) => stream.borrow_mut().poll_shutdown(cx),
        }
    }
}
