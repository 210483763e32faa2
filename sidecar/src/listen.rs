//! Accepting: one thread per worker, each with a listener of its own on every port, so that nothing is shared while requests are served.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::watch;

use crate::access_log::AccessLog;
use crate::auth_client::postbox;
use crate::http1;
use crate::worker::deadlines::TICK_MILLIS;
use crate::worker::{Runtime, Worker};

/// An address to listen on, and the app's port behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    pub address: SocketAddr,
    pub app_port: u16,
}

/// Where the process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Serving,
    /// The pod is on its way out, and its app will end before the sidecar does. New connections are still taken, for routers learn late;
    /// but every client is told to go elsewhere, so that nobody is left when the app has ended.
    Leaving,
    /// Connections that are open finish what they began. Until they have, new ones are still taken: where only the sidecar is replaced, its
    /// port is without a listener for no longer than the new one takes to start.
    Draining,
    /// The grace period is over.
    Ending,
}

/// Workers that serve until `phase` says otherwise.
pub struct Workers {
    threads: Vec<JoinHandle<()>>,
}

/// Binds everything before it returns: afterwards every port answers, or the error says which does not.
pub fn serve(
    listens: &[Listen],
    workers: usize,
    runtime: &Runtime,
    phase: &watch::Receiver<Phase>,
    seed: u64,
) -> io::Result<Workers> {
    let mut threads = Vec::with_capacity(workers);
    for index in 0..workers.max(1) {
        let sockets = listens
            .iter()
            .map(|listen| Ok((bind(listen.address)?, listen.app_port)))
            .collect::<io::Result<Vec<_>>>()?;
        let (runtime, phase) = (runtime.clone(), phase.clone());
        let seed = seed.wrapping_add(index as u64 * 0x9E37_79B9_7F4A_7C15);
        let thread = thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
            run(sockets, runtime, phase, seed);
        })?;
        threads.push(thread);
    }
    Ok(Workers { threads })
}

impl Workers {
    /// Waits until every worker has ended, which they do after `Draining` or `Ending`.
    pub fn join(self) {
        for thread in self.threads {
            // A worker that panicked has ended too, and has said so.
            let _ = thread.join();
        }
    }
}

/// Several listeners share a port, and the kernel spreads connections over them.
fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    const BACKLOG: i32 = 4096;
    /// A client that is gone without a word is noticed in three minutes, however long its stream may be silent. Connections that are
    /// accepted have it from here.
    const KEEPALIVE: TcpKeepalive =
        TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(30)).with_retries(4);
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_nonblocking(true)?;
    socket.set_tcp_keepalive(&KEEPALIVE)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn run(sockets: Vec<(std::net::TcpListener, u16)>, runtime: Runtime, phase: watch::Receiver<Phase>, seed: u64) {
    let executor =
        Builder::new_current_thread().enable_io().enable_time().event_interval(61).build_local(LocalOptions::default());
    match executor {
        Ok(executor) => executor.block_on(work(sockets, runtime, phase, seed)),
        Err(error) => crate::log::error("a worker did not start", &[("error", &error)]),
    }
}

async fn work(
    sockets: Vec<(std::net::TcpListener, u16)>,
    runtime: Runtime,
    mut phase: watch::Receiver<Phase>,
    seed: u64,
) {
    let worker = Worker::new(runtime, seed, AccessLog::new(Box::new(io::stderr())));
    let ticking = tokio::task::spawn_local(tick(Rc::clone(&worker)));
    let answers = postbox::open();
    let mut accepting = Vec::new();
    for (socket, app_port) in sockets {
        match TcpListener::from_std(socket) {
            Ok(listener) => accepting.push(tokio::task::spawn_local(accept(listener, app_port, Rc::clone(&worker)))),
            Err(error) => crate::log::error("a listener did not start", &[("error", &error)]),
        }
    }
    // A sender that is gone ends the process like a drain.
    if phase.wait_for(|phase| *phase >= Phase::Leaving).await.is_ok() {
        worker.leave();
    }
    let _ = phase.wait_for(|phase| *phase >= Phase::Draining).await;
    worker.drain();
    let drained = async {
        emptied(&worker, |worker| worker.early.get()).await;
        for task in &accepting {
            task.abort();
        }
        worker.close();
        emptied(&worker, |worker| worker.open.get()).await;
    };
    let ended = phase.wait_for(|phase| *phase == Phase::Ending);
    tokio::select! {
        () = drained => {}
        _ = ended => {}
    }
    ticking.abort();
    answers.abort();
    worker.log.borrow_mut().flush();
}

async fn emptied(worker: &Worker, connections: impl Fn(&Worker) -> usize) {
    while connections(worker) > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        worker.pool.clear();
    }
}

async fn tick(worker: Rc<Worker>) {
    let started = Instant::now();
    let mut interval = tokio::time::interval(Duration::from_millis(TICK_MILLIS));
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        worker.tick(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX));
    }
}

async fn accept(listener: TcpListener, app_port: u16, worker: Rc<Worker>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Answers are written whole; waiting for more would only delay them.
                if worker.has_room() && stream.set_nodelay(true).is_ok() {
                    tokio::task::spawn_local(http1::serve(stream, peer.ip(), app_port, Rc::clone(&worker)));
                }
            }
            // Out of file descriptors, or a connection that died in the queue: neither may spin.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}
