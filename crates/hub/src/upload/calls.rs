//! Requests that carry something: made of pieces while they are sent, watched meanwhile, and ended when nothing moves or a
//! stop is asked for.
//!
//! The blocking client of `wire` is no use here. Its timeout counts the whole way of a body, so that a large one would need
//! a timeout of hours, in which neither a dead connection nor a stop is noticed. Here a request is a future: dropping it
//! closes its connection.

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

use crate::UploadStopped;
use crate::http_client::{Failure, HttpClient, MOST_DESCRIPTION_BYTES, refusal};
use base::digest::Hasher;
use base::fault::WithHint as _;
use base::stop::StopFlag;

/// How often a request under way is looked at.
const TICK: Duration = Duration::from_millis(100);
/// Silences that an upload is given. What was handed over may still lie in the system's buffers, some megabytes that take
/// a minute on a slow line; and a commit of many files keeps the server busy.
const SILENCES: u32 = 5;
/// As in reqwest.
const MOST_REDIRECTS: usize = 10;

/// What a request and the body that it sends have in common.
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

    /// So many bytes more of the contents have been read for sending.
    pub(super) fn hand_over(&self, bytes: u64) {
        self.handed_over.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Keeps the digest of all that was sent for who sends the rest.
    pub(super) fn keep(&self, hasher: Hasher) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(hasher);
    }

    pub(super) fn kept(&self) -> Option<Hasher> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Ends the request for a reason of our own.
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

/// An error where a stop was asked for.
pub(super) fn check_stop(stop: &StopFlag) -> anyhow::Result<()> {
    let ended = if stop.is_raised() { Err(UploadStopped) } else { Ok(()) };
    ended.hint(|| "what has arrived is kept: the same command goes on from there")
}

/// The pieces of a body.
pub(super) type BodyPieces = Box<dyn Iterator<Item = io::Result<Vec<u8>>> + Send>;

/// What a request carries.
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
    /// What the body says, which should be `what`.
    pub(super) fn json<T: DeserializeOwned>(&self, what: &str) -> Result<T, Failure> {
        serde_json::from_slice(&self.body)
            .map_err(|_| Failure::Malformed(format!("the server's answer is no {what} as a Hub gives it")))
    }
}

/// The way to one Hub and its storage.
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
        // A repository that was renamed is redirected to in this way; any other would make a GET of a POST.
        let redirects = Policy::custom(|attempt| {
            let keeps_method =
                [StatusCode::TEMPORARY_REDIRECT, StatusCode::PERMANENT_REDIRECT].contains(&attempt.status());
            match keeps_method && attempt.previous().len() <= MOST_REDIRECTS {
                true => attempt.follow(),
                false => attempt.stop(),
            }
        });
        // Between two requests a large file may be read: a connection that is kept may be closed by then.
        let client = Client::builder().user_agent(agent).redirect(redirects).pool_max_idle_per_host(0).build();
        let runtime = Builder::new_current_thread().enable_all().build();
        Ok(Self { http, stop, client: client.context(failed)?, runtime: runtime.context(failed)? })
    }

    /// A request with the token, which goes to the Hub alone.
    pub(super) fn request(&self, method: Method, url: Url, body: Body) -> Request {
        let mut headers = HeaderMap::new();
        if let Some(token) = self.http.token.as_ref().filter(|_| url.origin() == self.http.endpoint.origin()) {
            headers.insert(AUTHORIZATION, token.clone());
        }
        Request { method, url, headers, body }
    }

    /// The answer to a request that may be repeated, repeated while its failure may pass.
    pub(super) fn patiently(&self, what: &str, mut request: impl FnMut() -> Request) -> anyhow::Result<Answer> {
        let mut retries = self.http.retries(what);
        loop {
            match self.once(request(), &Flow::new(self.stop), |_| {}) {
                Ok(answer) => return Ok(answer),
                Err(error) => self.pause(retries.next_wait(error.downcast::<Failure>()?)?)?,
            }
        }
    }

    /// The answer to one try; `shown` is told how many bytes of contents are on their way.
    ///
    /// # Errors
    /// A [`Failure`] of the server or the network; what the body's source gives; a stop.
    pub(super) fn once(&self, request: Request, flow: &Flow, shown: impl FnMut(u64)) -> anyhow::Result<Answer> {
        check_stop(self.stop)?;
        let answer = self.runtime.block_on(self.watch(self.exchange(request), flow, shown));
        // What befell the body is the reason of whatever befell the connection.
        match flow.trouble() {
            Some(trouble) => Err(trouble),
            None => answer,
        }
    }

    /// Waits, unless a stop is asked for.
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
                // Without it the body would come in chunks, which the storage does not take.
                headers.insert(CONTENT_LENGTH, bytes.into());
                reqwest::Body::wrap_stream(stream::iter(pieces))
            }
        };
        let sent = self.client.request(request.method, request.url).headers(headers).body(body).send().await;
        let mut answer = sent.map_err(|error| self.http.unsent(error))?;
        self.http.is_reached.set(true);
        let (status, headers) = (answer.status(), answer.headers().clone());
        let mut body = Vec::new();
        loop {
            match answer.chunk().await {
                Ok(Some(_)) if body.len() as u64 > MOST_DESCRIPTION_BYTES => {
                    return Err(Failure::Malformed("the server's answer has no end".to_owned()));
                }
                Ok(Some(more)) => body.extend_from_slice(&more),
                Ok(None) => break,
                Err(error) if status.is_success() => return Err(self.http.unsent(error)),
                // The refusal counts, whatever became of its explanation.
                Err(_) => break,
            }
        }
        match status.is_success() {
            true => Ok(Answer { headers, body }),
            false => Err(Failure::Refused(refusal(status, &headers, || body))),
        }
    }
}
