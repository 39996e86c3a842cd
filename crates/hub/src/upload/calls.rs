//! Requests with a body: it is read while it is sent, and the request ends when nothing moves or a stop is requested.
//!
//! The blocking client of `http_client` cannot be used here. Its timeout includes sending the body, so a large one
//! would need a timeout of hours, in which neither a dead connection nor a stop is noticed. Here a request is a future:
//! dropping it closes its connection.

use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::stream;
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, StatusCode, Url};
use serde::de::DeserializeOwned;
use tokio::runtime::{Builder, Runtime};

use crate::http_client::{Failure, HttpClient, MAX_DESCRIPTION_BYTES, choose_cryptography, refusal};
use crate::requests::UploadStopped;
use base::digest::Hasher;
use base::error::WithHint as _;
use base::stop::StopFlag;

/// How often a request is checked.
const TICK: Duration = Duration::from_millis(100);
/// Multiple of the timeout for silence. Sent bytes may still be in the system's buffers, some megabytes that take a
/// minute on a slow line; and a commit of many files keeps the server busy.
const SILENCES: u32 = 5;
/// As in reqwest.
const MAX_REDIRECTS: usize = 10;

/// Shared by a request and its body.
pub(super) struct Flow {
    pub(super) stop: StopFlag,
    handed_over: AtomicU64,
    trouble: Mutex<Option<anyhow::Error>>,
    kept: Mutex<Option<Hasher>>,
}

impl Flow {
    pub(super) fn new(stop: &StopFlag) -> Self {
        Self { stop: stop.clone(), handed_over: AtomicU64::new(0), trouble: Mutex::new(None), kept: Mutex::new(None) }
    }

    /// Counts bytes that have been read for sending.
    pub(super) fn hand_over(&self, bytes: u64) {
        self.handed_over.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Keeps the digest of everything sent so far for the next part.
    pub(super) fn keep(&self, hasher: Hasher) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(hasher);
    }

    pub(super) fn kept(&self) -> Option<Hasher> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Ends the request for a local reason.
    pub(super) fn fail(&self, error: anyhow::Error) -> io::Error {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        io::Error::other("the body has no more to send")
    }

    fn trouble(&self) -> Option<anyhow::Error> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn handed_over(&self) -> u64 {
        self.handed_over.load(Ordering::Relaxed)
    }
}

/// An error if a stop was requested.
pub(super) fn check_stop(stop: &StopFlag) -> anyhow::Result<()> {
    let ended = if stop.is_raised() { Err(UploadStopped) } else { Ok(()) };
    ended.hint(|| "run the same command to continue")
}

pub(super) type BodyPieces = Box<dyn Iterator<Item = io::Result<Vec<u8>>> + Send>;

pub(super) enum Body {
    Nothing,
    Json(serde_json::Value),
    Pieces { pieces: BodyPieces, bytes: u64 },
}

/// One try of a request.
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
}

/// A success.
pub(super) struct Answer {
    pub(super) headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    /// The body as JSON, which should be `what`.
    pub(super) fn json<T: DeserializeOwned>(&self, what: &str) -> Result<T, Failure> {
        serde_json::from_slice(&self.body)
            .map_err(|_| Failure::Malformed(format!("the server's answer is not a valid {what}")))
    }
}

/// Sends requests to one Hub and its storage.
pub(super) struct Calls<'a> {
    pub(super) http: &'a HttpClient,
    pub(super) stop: &'a StopFlag,
    client: Client,
    runtime: Runtime,
}

impl<'a> Calls<'a> {
    pub(super) fn new(http: &'a HttpClient, stop: &'a StopFlag) -> anyhow::Result<Self> {
        let failed = "cannot set up a connection to the Hub";
        let agent = format!("{}/{}", base::PROGRAM, base::VERSION);
        // A renamed repository redirects in this way; other redirects would turn a POST into a GET.
        let redirects = Policy::custom(|attempt| {
            let keeps_method =
                [StatusCode::TEMPORARY_REDIRECT, StatusCode::PERMANENT_REDIRECT].contains(&attempt.status());
            match keeps_method && attempt.previous().len() <= MAX_REDIRECTS {
                true => attempt.follow(),
                false => attempt.stop(),
            }
        });
        // A large file may be read between two requests, and an idle connection may be closed by then.
        choose_cryptography();
        let client = Client::builder().user_agent(agent).redirect(redirects).pool_max_idle_per_host(0).build();
        let runtime = Builder::new_current_thread().enable_all().build();
        Ok(Self { http, stop, client: client.context(failed)?, runtime: runtime.context(failed)? })
    }

    /// A request with the token, which is only sent to the Hub.
    pub(super) fn request(&self, method: Method, url: Url, body: Body) -> Request {
        let mut headers = HeaderMap::new();
        if let Some(token) = self.http.token.as_ref().filter(|_| url.origin() == self.http.endpoint.origin()) {
            headers.insert(AUTHORIZATION, token.clone());
        }
        Request { method, url, headers, body }
    }

    /// Sends a request that may be repeated, with retries.
    pub(super) fn patiently(&self, what: &str, mut request: impl FnMut() -> Request) -> anyhow::Result<Answer> {
        let mut retries = self.http.retries(what);
        loop {
            match self.once(request(), &Flow::new(self.stop), |_| {}) {
                Ok(answer) => return Ok(answer),
                Err(error) => self.pause(retries.next_wait(error.downcast::<Failure>()?)?)?,
            }
        }
    }

    /// Sends a request once; `shown` gets the number of bytes on their way.
    ///
    /// # Errors
    /// A [`Failure`] of the server or the network, an error of the body's source, or a stop.
    pub(super) fn once(&self, request: Request, flow: &Flow, shown: impl FnMut(u64)) -> anyhow::Result<Answer> {
        check_stop(self.stop)?;
        let answer = self.runtime.block_on(self.watch(self.exchange(request), flow, shown));
        // A failure of the body is the cause of any failure of the connection.
        match flow.trouble() {
            Some(trouble) => Err(trouble),
            None => answer,
        }
    }

    /// Waits, unless a stop is requested.
    pub(super) fn pause(&self, wait: Duration) -> anyhow::Result<()> {
        let start = Instant::now();
        loop {
            check_stop(self.stop)?;
            let left = wait.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(TICK));
        }
    }

    async fn watch(
        &self,
        exchange: impl Future<Output = Result<Answer, Failure>>,
        flow: &Flow,
        mut shown: impl FnMut(u64),
    ) -> anyhow::Result<Answer> {
        let mut exchange = pin!(exchange);
        let patience = self.http.patience.silence.saturating_mul(SILENCES);
        let (mut handed_over, mut moved) = (0, Instant::now());
        loop {
            let answer = tokio::time::timeout(TICK, exchange.as_mut()).await;
            let now = flow.handed_over();
            if now != handed_over {
                (handed_over, moved) = (now, Instant::now());
                shown(now);
            }
            if let Ok(answer) = answer {
                return Ok(answer?);
            }
            check_stop(self.stop)?;
            if moved.elapsed() >= patience {
                return Err(Failure::Silent(patience).into());
            }
        }
    }

    async fn exchange(&self, request: Request) -> Result<Answer, Failure> {
        let mut headers = request.headers;
        let body = match request.body {
            Body::Nothing => reqwest::Body::default(),
            Body::Json(value) => {
                headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
                reqwest::Body::from(value.to_string())
            }
            Body::Pieces { pieces, bytes } => {
                // Without it the body would be sent in chunks, which the storage does not accept.
                headers.insert(CONTENT_LENGTH, bytes.into());
                reqwest::Body::wrap_stream(stream::iter(pieces))
            }
        };
        let sent = self.client.request(request.method, request.url).headers(headers).body(body).send().await;
        let mut answer = sent.map_err(|error| self.http.unsent(error))?;
        self.http.is_reached.store(true, Ordering::Relaxed);
        let (status, headers) = (answer.status(), answer.headers().clone());
        let mut body = Vec::new();
        loop {
            match answer.chunk().await {
                Ok(Some(_)) if body.len() as u64 > MAX_DESCRIPTION_BYTES => {
                    return Err(Failure::Malformed("the server's answer is too long".to_owned()));
                }
                Ok(Some(more)) => body.extend_from_slice(&more),
                Ok(None) => break,
                Err(error) if status.is_success() => return Err(self.http.unsent(error)),
                // The refusal counts, even without its explanation.
                Err(_) => break,
            }
        }
        match status.is_success() {
            true => Ok(Answer { headers, body }),
            false => Err(Failure::Refused(refusal(status, &headers, || body))),
        }
    }
}
