//! Accepting connections: HTTP/1.1 and HTTP/2, with or without TLS, until told to stop.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::Response;
use http::StatusCode;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use crate::endpoint::problem::problem;
use crate::peer::Peer;
use crate::room::{Answer, Counted, Guest, Room};
use crate::routes::PUBLIC_BODY;

const HANDSHAKE: Duration = Duration::from_secs(10);
const HEAD: Duration = Duration::from_secs(10);
/// Requests under way may finish within it.
pub const GRACE: Duration = Duration::from_secs(10);
/// Connections at once on one port; others wait to be accepted.
const CONNECTIONS: usize = 20_000;

/// Serves until `stopping` is true, then finishes what is under way. With a `room` anybody may come, and it bounds what they cost.
pub async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    room: Option<Room>,
    mut stopping: watch::Receiver<bool>,
) {
    let graceful = GracefulShutdown::new();
    let limit = Arc::new(Semaphore::new(CONNECTIONS));
    let builder = Arc::new(builder(if room.is_some() { &ANYBODY } else { &WORKLOADS }));
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &limit) => accepted,
            _ = stopping.wait_for(|stopping| *stopping) => break,
        };
        let Some((stream, peer, permit)) = accepted else { continue };
        let guest = match &room {
            // Closed at once: whoever waits would only wait for those who take all the room.
            Some(room) => match Guest::enter(room) {
                Some(guest) => Some(guest),
                None => continue,
            },
            None => None,
        };
        let (tls, router, builder) = (tls.clone(), router.clone(), Arc::clone(&builder));
        let watcher = graceful.watcher();
        tokio::spawn(async move {
            let _permit = permit;
            match tls {
                None => connection(&builder, stream, peer, router, guest, watcher).await,
                Some(acceptor) => {
                    if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                        connection(&builder, stream, peer, router, guest, watcher).await;
                    }
                }
            }
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(GRACE, graceful.shutdown()).await;
}

/// What one connection may keep waiting.
struct Bounds {
    /// Bytes of a request's head.
    head: u32,
    streams: u32,
    /// Bytes of a stream's body and of a connection's, unread; hyper's own where there is none.
    windows: Option<(u32, u32)>,
}

const WORKLOADS: Bounds = Bounds { head: 64 << 10, streams: 1000, windows: None };
/// Browsers come with the cookies of all that is under the same domain; nobody sends ahead more than a form or two.
const ANYBODY: Bounds = Bounds { head: 32 << 10, streams: 100, windows: Some((64 << 10, 128 << 10)) };

fn builder(Bounds { head, streams, windows }: &Bounds) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(*head as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(*streams)
        .max_header_list_size(*head)
        .initial_stream_window_size(windows.map(|(stream, _)| stream))
        .initial_connection_window_size(windows.map(|(_, connection)| connection))
        .keep_alive_interval(Some(Duration::from_secs(20)))
        .keep_alive_timeout(Duration::from_secs(10));
    builder
}

async fn accept(
    listener: &TcpListener,
    limit: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(limit).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => {
            let _ = stream.set_nodelay(true);
            Some((stream, peer, permit))
        }
        Err(error) => {
            // Out of file descriptors, most likely: it passes.
            tracing::warn!(%error, "no connection accepted");
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

async fn connection<S>(
    builder: &Builder<TokioExecutor>,
    stream: S,
    peer: SocketAddr,
    router: Router,
    guest: Option<Arc<Guest>>,
    watcher: Watcher,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Some(guest) = guest else {
        let service = service_fn(move |request| call(router.clone(), peer, request));
        if let Err(error) = watcher.watch(builder.serve_connection(TokioIo::new(stream), service)).await {
            tracing::debug!(%error, %peer, "connection ended");
        }
        return;
    };
    let stream = TokioIo::new(Counted::new(stream, Arc::clone(&guest)));
    let serving = {
        let guest = Arc::clone(&guest);
        let service = service_fn(move |request: http::Request<Incoming>| {
            let stay = guest.admit(&request, PUBLIC_BODY);
            let router = router.clone();
            async move {
                if stay.is_none() {
                    return Ok(no_room().map(|body| Answer::new(body, None)));
                }
                Ok::<_, Infallible>(call(router, peer, request).await?.map(|body| Answer::new(body, stay)))
            }
        });
        watcher.watch(builder.serve_connection(stream, service))
    };
    tokio::select! {
        served = serving => if let Err(error) = served {
            tracing::debug!(%error, %peer, "connection ended");
        },
        () = guest.overstays() => tracing::debug!(%peer, "connection closed: it does not take its answers"),
    }
    guest.leave();
}

async fn call(
    mut router: Router,
    peer: SocketAddr,
    mut request: http::Request<Incoming>,
) -> Result<Response, Infallible> {
    request.extensions_mut().insert(Peer(peer.ip()));
    tower_service::Service::call(&mut router, request).await
}

fn no_room() -> Response {
    problem(StatusCode::SERVICE_UNAVAILABLE, "too many requests are under way", None)
}
