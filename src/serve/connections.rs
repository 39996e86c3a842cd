//! Accepts connections, gives each a time to take, and ends in an orderly way.
//!
//! A connection serves one request: on one machine a new one costs nothing, and none has to be kept alive or to be
//! waited for when the server stops.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::limits::Limits;

/// Bytes of the head of a request; browsers send less than 2 KiB. It is also the piece in which a body is read.
const MAX_HEAD_BYTES: usize = 64 << 10;

/// How often it is asked whether to stop.
const STOP_INTERVAL: Duration = Duration::from_millis(100);

/// How long it waits when a connection cannot be accepted, most often for too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Whether a connection is worth waiting for when the server stops.
#[derive(Clone, Debug, Default)]
pub(super) struct Phase(Arc<AtomicBool>);

impl Phase {
    /// The request is being answered: it is finished.
    pub(super) fn answer(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// More of the request has to arrive: it is not waited for.
    pub(super) fn receive(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    fn is_answering(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Serves until `is_stopped` says yes, calls `on_stop`, and finishes what is being answered. Gives the time by which all
/// has to be over.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    is_stopped: impl Fn() -> bool,
    on_stop: impl FnOnce(),
) -> Instant {
    let (stop, stopping) = watch::channel(false);
    let mut connections = JoinSet::new();
    tokio::select! {
        never = accept(&listener, &router, limits, &stopping, &mut connections) => match never {},
        () = stopped(is_stopped) => {}
    }
    drop(listener);
    on_stop();
    // There may be no connection that listens.
    let _ = stop.send(true);
    let deadline = Instant::now() + limits.finish;
    let finished = async { while connections.join_next().await.is_some() {} };
    // What is not finished by then is broken off with the set.
    let _ = timeout_at(deadline, finished).await;
    deadline
}

async fn stopped(is_stopped: impl Fn() -> bool) {
    while !is_stopped() {
        sleep(STOP_INTERVAL).await;
    }
}

async fn accept(
    listener: &TcpListener,
    router: &Router,
    limits: Limits,
    stopping: &watch::Receiver<bool>,
    connections: &mut JoinSet<()>,
) -> Infallible {
    let permits = Arc::new(Semaphore::new(limits.num_connections));
    loop {
        // The permit comes first: who finds none waits in the system's own queue and takes no file handle.
        let permit = Arc::clone(&permits).acquire_owned().await.expect("nobody closes the semaphore");
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.spawn(connection(stream, router.clone(), limits, stopping.clone(), permit));
            }
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(
    stream: TcpStream,
    router: Router,
    limits: Limits,
    mut stopping: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
) {
    let phase = Phase::default();
    let inner = TowerToHyperService::new(router);
    let service = service_fn({
        let phase = phase.clone();
        move |mut request: Request<Incoming>| {
            phase.answer();
            request.extensions_mut().insert(phase.clone());
            inner.call(request)
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.header).max_buf_size(MAX_HEAD_BYTES).keep_alive(false);
    let mut exchange = Box::pin(builder.serve_connection(TokioIo::new(stream), service).without_shutdown());
    let whole = async {
        tokio::select! {
            parts = &mut exchange => parts.ok(),
            () = stop_announced(&mut stopping) => {
                if phase.is_answering() { exchange.await.ok() } else { None }
            }
        }
    };
    // A client that breaks off or is too slow is no failure of ours.
    if let Ok(Some(parts)) = timeout(limits.connection(), whole).await {
        let _ = timeout(limits.linger, hang_up(parts.io.into_inner())).await;
    }
}

async fn stop_announced(stopping: &mut watch::Receiver<bool>) {
    // An error means that the server is gone, which is a stop too.
    let _ = stopping.wait_for(|&is_stopping| is_stopping).await;
}

/// Ends our side and reads away what the client still sends. To close with unread bytes would reset the connection, and
/// the client could lose the answer: that its picture is too large, for instance.
async fn hang_up(mut stream: TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    let mut scrap = vec![0; MAX_HEAD_BYTES];
    while stream.read(&mut scrap).await? > 0 {}
    Ok(())
}
