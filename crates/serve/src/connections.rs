//! Accepts connections, enforces timeouts, and shuts down gracefully.
//!
//! A connection serves one request: on one machine a new one costs nothing, and none has to be kept alive or waited for
//! when the server stops.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::TokioTimer;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::limits::Limits;
use super::problem::Problem;
use super::unanswered::Unanswered;

/// Bytes of the head of a request; browsers send less than 2 KiB. Also the size of the pieces in which a body is read.
const MAX_HEAD_BYTES: usize = 64 << 10;

/// How often to check whether to stop.
const STOP_INTERVAL: Duration = Duration::from_millis(100);

/// Pause after a connection could not be accepted, most often because of too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Whether a connection is waited for when the server stops.
#[derive(Clone, Debug, Default)]
pub(super) struct Phase(Arc<AtomicBool>);

impl Phase {
    /// The request is being answered and will be finished.
    pub(super) fn answer(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// More of the request has to arrive; it is not waited for.
    pub(super) fn receive(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    fn is_answering(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Serves until `is_stopped` returns true, calls `on_stop`, and finishes what is being answered. Returns the deadline
/// for everything else. Connections that cannot be accepted are logged once.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    log: &dyn Fn(&str),
    is_stopped: impl Fn() -> bool,
    on_stop: impl FnOnce(),
) -> Instant {
    let (stop, stopping) = watch::channel(false);
    let mut connections = JoinSet::new();
    tokio::select! {
        never = accept(&listener, &router, limits, log, &stopping, &mut connections) => match never {},
        () = stopped(is_stopped) => {}
    }
    drop(listener);
    on_stop();
    // There may be no open connection.
    let _ = stop.send(true);
    let deadline = Instant::now() + limits.finish;
    let finished = async { while connections.join_next().await.is_some() {} };
    // Dropping the set aborts what is not finished by then.
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
    log: &dyn Fn(&str),
    stopping: &watch::Receiver<bool>,
    connections: &mut JoinSet<()>,
) -> Infallible {
    let mut is_logged = false;
    let permits = Arc::new(Semaphore::new(limits.num_connections));
    loop {
        // The permit comes first: a client without one waits in the system's queue and uses no file handle.
        let permit = Arc::clone(&permits).acquire_owned().await.expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.spawn(connection(stream, router.clone(), limits, stopping.clone(), permit));
            }
            Err(error) => {
                if !is_logged && !is_of_client(&error) {
                    is_logged = true;
                    log(&format!(
                        "cannot accept connections, clients have to wait: {error} (if too many files are open, raise \
                         the limit shown by `ulimit -n`, or close other programs)"
                    ));
                }
                sleep(ACCEPT_PAUSE).await;
            }
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
    let (phase, has_request) = (Phase::default(), Arc::new(AtomicBool::new(false)));
    let inner = TowerToHyperService::new(router);
    let service = service_fn({
        let (phase, has_request) = (phase.clone(), Arc::clone(&has_request));
        move |mut request: Request<Incoming>| {
            has_request.store(true, Ordering::Relaxed);
            phase.answer();
            request.extensions_mut().insert(phase.clone());
            Box::pin(inner.call(request))
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.header).max_buf_size(MAX_HEAD_BYTES).keep_alive(false);
    let mut exchange = builder.serve_connection(Unanswered::new(stream, has_request), service);
    let whole = async {
        let mut end = pin!(poll_fn(|context| exchange.poll_without_shutdown(context)));
        tokio::select! {
            ended = &mut end => Some(ended),
            () = stop_announced(&mut stopping) => if phase.is_answering() { Some(end.await) } else { None },
        }
    };
    let Ok(Some(ended)) = timeout(limits.connection(), whole).await else { return };
    let parts = exchange.into_parts();
    let refusal = ended.as_ref().err().and_then(|error| parts.io.refusal(error, !parts.read_buf.is_empty()));
    // A client that disconnects is not a failure of the server.
    if ended.is_ok() || refusal.is_some() {
        let refusal = refusal.map_or_else(Vec::new, Problem::into_bytes);
        let _ = timeout(limits.linger, hang_up(parts.io.into_stream(), &refusal)).await;
    }
}

fn is_of_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

async fn stop_announced(stopping: &mut watch::Receiver<bool>) {
    // An error means that the server has ended, which is a stop too.
    let _ = stopping.wait_for(|&is_stopping| is_stopping).await;
}

/// Sends the rest of the answer, closes our side and discards what the client still sends. Closing with unread bytes
/// would reset the connection, and the client could lose the answer, for instance that its picture is too large.
async fn hang_up(mut stream: TcpStream, rest: &[u8]) -> io::Result<()> {
    stream.write_all(rest).await?;
    stream.shutdown().await?;
    let mut scrap = vec![0; MAX_HEAD_BYTES];
    while stream.read(&mut scrap).await? > 0 {}
    Ok(())
}
