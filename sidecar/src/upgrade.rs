//! WebSockets and whatever else a connection was switched to: bytes in both directions, until one side or the session ends.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::Poll;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::http1::Connection;
use crate::http1::buffer::Buffer;
use crate::http1::io::{Limits, fill, write_all};
use crate::metrics::Cut;
use crate::request::gate::Forwarding;
use crate::upstream::Upstream;
use crate::worker::deadlines::Bond;

/// Only after the app's 101 has been passed on. What the client sent ahead of it waits in `input`.
pub async fn tunnel(
    connection: &mut Connection,
    mut upstream: Upstream,
    forwarding: &Forwarding,
    input: &mut Buffer,
    reply: &mut Buffer,
) {
    let Connection { stream, worker, deadline, peer, .. } = connection;
    deadline.allow(&worker.deadlines, forwarding.policy.limits.stream_idle_timeout);
    forwarding.bind(worker, deadline, Bond::Stream);
    let limits = Limits { worker, deadline };
    let (mut from_client, mut to_client) = stream.split();
    let (mut from_app, mut to_app) = upstream.stream.split();
    let up = (input, &mut from_client, &mut to_app);
    let down = (reply, &mut from_app, &mut to_client);
    shuttle(up, down, limits).await;
    if deadline.has_passed() {
        forwarding.cut(worker, peer, forwarding.lateness(worker, Cut::TimedOut));
    }
    deadline.unbind();
}

/// Bytes read already, where more come from, and where they go.
pub type Way<'w, R, W> = (&'w mut Buffer, &'w mut R, &'w mut W);

/// Until both directions have ended, or one has failed.
pub async fn shuttle<R1, W1, R2, W2>(up: Way<'_, R1, W1>, down: Way<'_, R2, W2>, limits: Limits<'_>)
where
    R1: AsyncRead + Unpin,
    W1: AsyncWrite + Unpin,
    R2: AsyncRead + Unpin,
    W2: AsyncWrite + Unpin,
{
    let mut up = pin!(carry(up, limits));
    let mut down = pin!(carry(down, limits));
    let (mut up_done, mut down_done) = (false, false);
    // Either side may finish speaking first and go on listening; an error ends both.
    poll_fn(|cx| {
        if !up_done && let Poll::Ready(result) = up.as_mut().poll(cx) {
            up_done = true;
            if result.is_err() {
                return Poll::Ready(());
            }
        }
        if !down_done && let Poll::Ready(result) = down.as_mut().poll(cx) {
            down_done = true;
            if result.is_err() {
                return Poll::Ready(());
            }
        }
        if up_done && down_done { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

async fn carry<R, W>((buffer, from, to): Way<'_, R, W>, limits: Limits<'_>) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    loop {
        write_all(to, buffer.filled(), limits).await?;
        buffer.clear();
        if fill(buffer, from, limits).await? == 0 {
            let Limits { worker, deadline } = limits;
            return poll_fn(|cx| deadline.limit(&worker.deadlines, Pin::new(&mut *to).poll_shutdown(cx))).await;
        }
    }
}
