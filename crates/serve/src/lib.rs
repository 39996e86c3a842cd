//! Layer 1: a page on this machine where a person drops a picture and sees its caption, and the JSON endpoint behind it.
//!
//! - `describe` is what a model must do to be served.
//! - `queue` holds those who wait for the model, `model_thread` takes them from it one by one.
//! - `guard` says which requests are let in, `routes` answers them, `body` and `query` read them.
//! - `unanswered` puts our answers in the place of the HTTP library's own.
//! - `connections` accepts, sets the times that a client may take, and ends in an orderly way.
//! - `page/` is what the browser gets; it is part of the binary.
//!
//! It listens on 127.0.0.1 alone. There are no accounts and no encryption, so it is no server for a network.

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
mod unanswered;

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use anyhow::{Context as _, Result};

pub use self::describe::{Alternative, Answer, Describe, Refusal, Region, Request, Word};
pub use self::limits::Limits;

use self::queue::Queue;
use self::routes::App;
use base::fault::{WithHint as _, fault};

/// A port that was taken, before there is a model: a port in use is told before a model is loaded.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

/// What a server is told beside its model.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name of the model, as answers give it.
    pub model: String,
    /// What a client may take.
    pub limits: Limits,
}

impl Server {
    /// Listens on this port of 127.0.0.1; 0 takes a free one. Who connects before [`Self::run`] waits.
    ///
    /// # Errors
    /// A port that is in use or that needs more rights.
    pub fn bind(port: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|error| match error.kind() {
            ErrorKind::AddrInUse => fault(
                format!("port {port} of this machine is in use"),
                "give another one with --port, or --port 0 for any that is free",
            ),
            ErrorKind::PermissionDenied => {
                fault(format!("port {port} of this machine may not be taken"), "give one from 1024 up with --port")
            }
            _ => anyhow::Error::new(error).context(format!("cannot listen on port {port} of this machine")),
        })?;
        listener.set_nonblocking(true).context("cannot set up the port")?;
        let address = listener.local_addr().context("cannot tell which port was taken")?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves `model` until `is_stopped` says yes, which is asked ten times a second. Then nobody is let in, those who
    /// wait are sent away, and who is being answered gets the answer, within [`Limits::finish`]. `log` is told what a
    /// client is not: failures of the model.
    ///
    /// # Errors
    /// A thread or a runtime that cannot be started. What a client does is never an error.
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
            .hint(|| "the system may have no file handles left: `ulimit -n` shows how many there can be")
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
                log("the model was still at work on a picture when the server stopped");
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
    use base::fault::describe;

    #[test]
    fn port_in_use_is_told_with_a_way_out() {
        let first = Server::bind(0).unwrap();
        let port = first.address().port();
        assert!(first.address().ip().is_loopback() && port != 0);
        let error = describe(&Server::bind(port).unwrap_err());
        assert_eq!(
            error,
            format!(
                "port {port} of this machine is in use\n  hint: give another one with --port, or --port 0 for any \
                 that is free"
            )
        );
    }
}
