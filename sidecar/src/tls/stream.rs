//! A client's connection over TLS. What it holds beside its keys is memory of the worker's, counted and borrowed only while there is
//! something in it: half a record that came, words that nobody has taken yet, records that the client does not take. A connection that
//! waits holds none.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError, UnbufferedStatus, WriteTraffic,
};
use tokio::io::{AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;

use super::pair::Pair;
use crate::http1::buffer::{Buffer, Buffers, SMALL};
use crate::worker::Worker;

/// The largest record there is (RFC 8446 §5.2, RFC 5246 §6.2.3), with its head.
const LARGEST_RECORD: usize = 5 + (16 << 10) + 2048;
/// What encryption adds to as much as fits the memory for it, and to a message of the protocol's own that may go first.
const OVERHEAD: usize = 512;

pub struct TlsStream {
    socket: TcpStream,
    session: UnbufferedServerConnection,
    worker: Rc<Worker>,
    /// Received, and not decrypted.
    incoming: Buffer,
    /// Decrypted, and not taken.
    plain: Buffer,
    /// Encrypted, and not sent.
    outgoing: Buffer,
    /// What was received is no whole record.
    starved: bool,
    ended: Ended,
    /// We have said that we say no more.
    parted: bool,
}

/// What is known of the client's last word.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    No,
    /// `close_notify`: nothing is missing.
    Cleanly,
    /// What came is no TLS, or not the client's.
    Broken,
}

/// What is to be said once nothing that was received is left to be worked on.
#[derive(Clone, Copy)]
enum Say<'s> {
    Nothing,
    Bytes(&'s [u8]),
    Goodbye,
}

impl TlsStream {
    pub fn new(socket: TcpStream, pair: &Pair, worker: Rc<Worker>) -> Result<Self, rustls::Error> {
        Ok(Self {
            socket,
            session: UnbufferedServerConnection::new(pair.server.clone())?,
            worker,
            incoming: Buffer::default(),
            plain: Buffer::default(),
            outgoing: Buffer::default(),
            starved: true,
            ended: Ended::No,
            parted: false,
        })
    }

    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// What client and sidecar agreed to speak (RFC 7301).
    pub fn alpn(&self) -> Option<&[u8]> {
        self.session.alpn_protocol()
    }

    pub fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let worked = self.work(Say::Nothing);
            if let Err(error) = worked {
                // The alert that says what is wrong.
                let _ = self.poll_send(cx);
                return Poll::Ready(Err(error));
            }
            ready!(self.poll_send(cx))?;
            if !self.session.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            if self.ended == Ended::Cleanly {
                return Poll::Ready(Err(ErrorKind::UnexpectedEof.into()));
            }
            ready!(self.poll_receive(cx))?;
        }
    }

    /// Until there may be something to read.
    pub fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.starved && self.plain.is_empty() { self.socket.poll_read_ready(cx) } else { Poll::Ready(Ok(())) }
    }

    /// Nothing into `into`: the client has ended cleanly. A connection that merely stops is an error, for nobody knows what is missing.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if !self.plain.is_empty() {
                let count = self.plain.len().min(into.remaining());
                into.put_slice(&self.plain.filled()[..count]);
                self.plain.consume(count);
                self.plain.release(&self.worker.buffers);
                return Poll::Ready(Ok(()));
            }
            if self.ended == Ended::Cleanly {
                return Poll::Ready(Ok(()));
            }
            if self.starved {
                ready!(self.poll_receive(cx))?;
            }
            if let Err(error) = self.work(Say::Nothing) {
                let _ = self.poll_send(cx);
                return Poll::Ready(Err(error));
            }
        }
    }

    /// Takes what can be sent at once or kept in one piece of memory; [`TlsStream::poll_flush`] waits until that is sent.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        ready!(self.poll_send(cx))?;
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        let pool = &self.worker.buffers;
        self.outgoing = if total > SMALL { pool.large() } else { pool.small() };
        let mut taken = 0;
        for slice in slices {
            let count = self.work(Say::Bytes(slice))?;
            taken += count;
            if count < slice.len() {
                break;
            }
        }
        if let Poll::Ready(Err(error)) = self.poll_send(cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(taken))
    }

    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send(cx)
    }

    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.parted {
            ready!(self.poll_send(cx))?;
            self.parted = true;
            self.work(Say::Goodbye)?;
        }
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    /// Says goodbye, if the socket takes it at once.
    pub fn part(&mut self) {
        let _ = self.poll_shutdown(&mut Context::from_waker(Waker::noop()));
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_write(cx, self.outgoing.filled()))? {
                0 => return Poll::Ready(Err(ErrorKind::WriteZero.into())),
                count => self.outgoing.consume(count),
            }
        }
        self.outgoing.release(&self.worker.buffers);
        Poll::Ready(Ok(()))
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let pool = &self.worker.buffers;
        if self.incoming.is_full() {
            if self.incoming.capacity() >= LARGEST_RECORD {
                return Poll::Ready(Err(ErrorKind::InvalidData.into()));
            }
            // Whoever sends one record of this size sends more of them.
            self.incoming.expect_much(pool);
            if self.incoming.is_full() {
                self.incoming.grow(LARGEST_RECORD, pool);
            }
        }
        match self.incoming.poll_fill_from_pool(cx, &mut self.socket, pool) {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(ErrorKind::UnexpectedEof.into())),
            Poll::Ready(Ok(_)) => {
                self.starved = false;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                self.incoming.park(pool);
                Poll::Pending
            }
        }
    }

    /// Has the session work on what was received: until something can be read, or else until nothing whole is left and `say` can be said.
    /// How many of its bytes were.
    fn work(&mut self, say: Say<'_>) -> io::Result<usize> {
        if self.ended == Ended::Broken {
            return Err(ErrorKind::InvalidData.into());
        }
        let Self { session, worker, incoming, plain, outgoing, starved, ended, .. } = self;
        let pool = &worker.buffers;
        let mut wrong = None;
        loop {
            let UnbufferedStatus { mut discard, state } = session.process_tls_records(incoming.filled_mut());
            let mut said = None;
            match state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    encode(&mut data, outgoing, pool)?;
                    // It was the alert.
                    said = wrong.is_some().then_some(0);
                }
                _ if wrong.is_some() => said = Some(0),
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(invalid)?;
                        discard += record.discard;
                        plain.hold(record.payload, pool);
                    }
                    // Whoever wants to write has to have everything read before.
                    said = matches!(say, Say::Nothing).then_some(0);
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => *ended = Ended::Cleanly,
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    *starved = true;
                    said = Some(speak(&mut traffic, say, outgoing, pool)?);
                }
                Ok(ConnectionState::BlockedHandshake | ConnectionState::Closed) => {
                    *starved = true;
                    said = Some(0);
                }
                // An alert may have to be encoded.
                Err(error) => wrong = Some(error),
                // Data ahead of the handshake, which are not asked for.
                Ok(_) => return Err(ErrorKind::Unsupported.into()),
            }
            incoming.consume(discard);
            if let Some(said) = said {
                incoming.release(pool);
                if let Some(error) = wrong {
                    *ended = Ended::Broken;
                    return Err(invalid(error));
                }
                return Ok(said);
            }
        }
    }
}

impl Drop for TlsStream {
    fn drop(&mut self) {
        for buffer in [&mut self.incoming, &mut self.plain, &mut self.outgoing] {
            self.worker.buffers.give_back(std::mem::take(buffer));
        }
    }
}

fn speak(
    traffic: &mut WriteTraffic<'_, ServerConnectionData>,
    say: Say<'_>,
    outgoing: &mut Buffer,
    pool: &Buffers,
) -> io::Result<usize> {
    let (count, written) = match say {
        Say::Nothing => return Ok(0),
        Say::Bytes(bytes) => {
            let count = bytes.len().min(outgoing.spare_mut().len().saturating_sub(OVERHEAD));
            (count, traffic.encrypt(&bytes[..count], outgoing.spare_mut()))
        }
        Say::Goodbye => {
            outgoing.reserve(OVERHEAD, pool);
            (0, traffic.queue_close_notify(outgoing.spare_mut()))
        }
    };
    outgoing.claim(written.map_err(|error: EncryptError| io::Error::other(error.to_string()))?);
    Ok(count)
}

fn encode(data: &mut EncodeTlsData<'_, ServerConnectionData>, outgoing: &mut Buffer, pool: &Buffers) -> io::Result<()> {
    outgoing.reserve(OVERHEAD, pool);
    let encoded = match data.encode(outgoing.spare_mut()) {
        Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => {
            outgoing.reserve(required_size, pool);
            data.encode(outgoing.spare_mut())
        }
        encoded => encoded,
    };
    outgoing.claim(encoded.map_err(|error| io::Error::other(error.to_string()))?);
    Ok(())
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}
