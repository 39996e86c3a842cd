//! A local web page that captions a dropped picture, and its JSON endpoint.
//!
//! - `describe` is the interface of a model.
//! - `queue` holds waiting requests, `model_thread` processes them one by one.
//! - `guard` decides which requests are admitted, `routes` answers them, `body` and `query` parse them.
//! - `unanswered` replaces the HTTP library's own error answers.
//! - `connections` accepts, enforces timeouts, and shuts down gracefully. `axum::serve` would not do: it has no limit
//!   of connections, no timeout for the head of a request, no answer in our format to what is not HTTP, and at a
//!   shutdown it waits for idle clients.
//! - `page/` is the web page; it is part of the binary.
//!
//! It only listens on 127.0.0.1. There are no accounts and no encryption, so it must not be exposed to a network.

mod body;
mod connections;
mod describe;
mod guard;
mod limits;
mod model_thread;
mod problem;
mod query;
mod queue;
mod routes;
mod security_headers;
mod unanswered;

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use anyhow::{Context as _, Result};

pub use self::describe::{Alternative, Answer, Describe, Refusal, Region, Request, Word};
pub use self::limits::Limits;

use self::queue::Queue;
use self::routes::App;
use base::error::{WithHint as _, failure};

/// A bound port. It is bound before the model is loaded, so that a port in use is reported first.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

#[derive(Clone, Debug)]
pub struct Settings {
    /// The name of the model in answers.
    pub model: String,
    pub limits: Limits,
}

impl Server {
    /// Listens on this port of 127.0.0.1; 0 means a free one. Clients that connect before [`Self::run`] wait.
    ///
    /// # Errors
    /// A port that is in use or needs more permissions.
    pub fn bind(port: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|error| match error.kind() {
            ErrorKind::AddrInUse => failure(
                format!("port {port} is in use"),
                "choose another one with --port, or --port 0 for any free port",
            ),
            ErrorKind::PermissionDenied => {
                failure(format!("no permission to use port {port}"), "choose one from 1024 upwards with --port")
            }
            _ => anyhow::Error::new(error).context(format!("cannot listen on port {port}")),
        })?;
        listener.set_nonblocking(true).context("cannot set up the port")?;
        let address = listener.local_addr().context("cannot determine the port")?;
        Ok(Self { listener, address })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves `model` until `is_stopped` returns true, which is checked ten times a second. Then no requests are
    /// accepted, waiting ones are refused, and those being answered are finished, within [`Limits::finish`]. `log` gets
    /// what clients do not see: failures of the model.
    ///
    /// # Errors
    /// A thread or a runtime that cannot be started. Nothing that a client does is an error.
    pub fn run(
        self,
        model: impl Describe,
        settings: Settings,
        log: impl Fn(&str) + Send + Sync + 'static,
        is_stopped: impl Fn() -> bool,
    ) -> Result<()> {
        let limits = settings.limits;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .hint(|| "the process may be out of file handles: `ulimit -n` shows the limit")
            .context("cannot start the server")?;
        let queue = Queue::new(limits.num_waiting);
        let thread = model_thread::start(model, Arc::clone(&queue))?;
        let log = Arc::new(log);
        let app = App {
            room: body::room(&limits),
            queue: Arc::clone(&queue),
            limits,
            port: self.address.port(),
            model: settings.model,
            log: Box::new({
                let log = Arc::clone(&log);
                move |text| log(text)
            }),
        };
        let served = runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(self.listener).context("cannot listen")?;
            let told = |text: &str| log(text);
            let deadline =
                connections::serve(listener, routes::router(app), limits, &told, is_stopped, || queue.close()).await;
            if !model_thread::ended(&thread, deadline).await {
                // A thread cannot be ended from outside; it ends with the process.
                log("the model was still processing a picture when the server stopped");
            }
            Ok(())
        });
        queue.close();
        served
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::error::describe;

    #[test]
    fn port_in_use_is_reported_with_a_way_out() {
        let first = Server::bind(0).unwrap();
        let port = first.address().port();
        assert!(first.address().ip().is_loopback() && port != 0);
        let error = describe(&Server::bind(port).unwrap_err());
        assert_eq!(
            error,
            format!("port {port} is in use\n  hint: choose another one with --port, or --port 0 for any free port")
        );
    }
}
