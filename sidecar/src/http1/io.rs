//! Reading and writing within a deadline.

use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite};

use super::buffer::{Buffer, Buffers};
use crate::worker::Worker;
use crate::worker::deadlines::Deadline;

/// Time and the worker's clock, for one connection.
#[derive(Clone, Copy)]
pub struct Limits<'l> {
    pub worker: &'l Worker,
    pub deadline: &'l Deadline,
}

/// 0: the other end has finished. An empty buffer takes its memory when bytes are there, and not before.
pub async fn fill<R: AsyncRead + Unpin>(buffer: &mut Buffer, from: &mut R, limits: Limits<'_>) -> io::Result<usize> {
    let Limits { worker, deadline } = limits;
    buffer.release(&worker.buffers);
    poll_fn(|cx| deadline.limit(&worker.deadlines, buffer.poll_fill_from_pool(cx, from, &worker.buffers))).await
}

/// What is there already; `None` if waiting would be needed.
pub async fn fill_now<R: AsyncRead + Unpin>(
    buffer: &mut Buffer,
    from: &mut R,
    pool: &Buffers,
) -> Option<io::Result<usize>> {
    poll_fn(|cx| match buffer.poll_fill_from_pool(cx, from, pool) {
        Poll::Ready(result) => Poll::Ready(Some(result)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

pub async fn write_all<W: AsyncWrite + Unpin>(to: &mut W, bytes: &[u8], limits: Limits<'_>) -> io::Result<()> {
    write_both(to, bytes, &[], limits).await
}

/// Head and body in one system call where the socket takes them; done when none of it waits in a buffer any more.
pub async fn write_both<W: AsyncWrite + Unpin>(
    to: &mut W,
    mut first: &[u8],
    mut second: &[u8],
    limits: Limits<'_>,
) -> io::Result<()> {
    poll_fn(|cx| {
        while !first.is_empty() || !second.is_empty() {
            let written = if first.is_empty() {
                Pin::new(&mut *to).poll_write(cx, second)
            } else if second.is_empty() {
                Pin::new(&mut *to).poll_write(cx, first)
            } else {
                Pin::new(&mut *to).poll_write_vectored(cx, &[IoSlice::new(first), IoSlice::new(second)])
            };
            let mut count = ready!(limits.deadline.limit(&limits.worker.deadlines, written))?;
            if count == 0 {
                return Poll::Ready(Err(ErrorKind::WriteZero.into()));
            }
            let from_first = count.min(first.len());
            first = &first[from_first..];
            count -= from_first;
            second = &second[count..];
        }
        // Costs nothing where there is no TLS.
        limits.deadline.limit(&limits.worker.deadlines, Pin::new(&mut *to).poll_flush(cx))
    })
    .await
}
