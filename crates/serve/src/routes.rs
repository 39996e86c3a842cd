//! The three files of the page, the caption endpoint, and a health check.
//!
//! The files are part of the binary; no name in a request ever becomes a local path.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, RawQuery, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use serde::Serialize;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::connections::Phase;
use super::describe::{Alternative, Refusal, Region, Word};
use super::limits::Limits;
use super::problem::Problem;
use super::queue::{NoPlace, Outcome, Queue};
use super::{body, guard, query, security_headers};
use base::error::describe;

pub(super) struct App {
    pub(super) queue: Arc<Queue>,
    pub(super) limits: Limits,
    /// Memory for pictures.
    pub(super) room: Arc<Semaphore>,
    pub(super) port: u16,
    pub(super) model: String,
    pub(super) log: Box<dyn Fn(&str) + Send + Sync>,
}

pub(super) fn router(app: App) -> Router {
    let app = Arc::new(app);
    Router::new()
        .route("/", asset("text/html; charset=utf-8", include_str!("page/page.html")))
        .route("/page.css", asset("text/css; charset=utf-8", include_str!("page/page.css")))
        .route("/page.js", asset("text/javascript; charset=utf-8", include_str!("page/page.js")))
        .route("/health", get(health))
        .route("/api/caption", post(caption))
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "there is nothing at this address"))
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this address does not support this method")
        })
        .layer(from_fn_with_state(Arc::clone(&app), admit))
        .with_state(app)
}

fn asset(content_type: &'static str, content: &'static str) -> MethodRouter<Arc<App>> {
    get(async move || ([(CONTENT_TYPE, content_type)], content))
}

async fn admit(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let mut response = match guard::admit(request.method(), request.uri(), request.headers(), app.port) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    security_headers::seal(response.headers_mut());
    response
}

async fn health(State(app): State<Arc<App>>) -> Response {
    ([(CONTENT_TYPE, "application/json")], json!({ "status": "ok", "model": app.model }).to_string()).into_response()
}

/// The answer of the endpoint, with the name of the model and its computing time.
#[derive(Serialize)]
struct Described<'a> {
    caption: &'a str,
    words: &'a [Word],
    log_probability: f64,
    alternatives: &'a [Alternative],
    patches: [usize; 2],
    region: Region,
    model: &'a str,
    milliseconds: u64,
}

async fn caption(
    State(app): State<Arc<App>>,
    Extension(phase): Extension<Phase>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    guard::check_content_type(&headers)?;
    let request = query::parse(query.as_deref().unwrap_or(""))?;
    phase.receive();
    let image = body::read(&headers, body, &app.limits, &app.room).await;
    phase.answer();
    // Dropped with this future when the client disconnects, which gives up the place.
    let mut place = app.queue.join(image?, request).map_err(no_place)?;
    let Outcome { result, milliseconds } = timeout(app.limits.answer, place.outcome())
        .await
        .map_err(|_| {
            let seconds = app.limits.answer.as_secs_f64();
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, format!("no caption within {seconds} seconds"))
        })?
        .map_err(no_place)?;
    match result {
        Ok(answer) => {
            let described = Described {
                caption: &answer.caption,
                words: &answer.words,
                log_probability: answer.log_probability,
                alternatives: &answer.alternatives,
                patches: answer.patches,
                region: answer.region,
                model: &app.model,
                milliseconds,
            };
            let json = serde_json::to_string(&described).map_err(|error| failure(&app, &error.into()))?;
            Ok(([(CONTENT_TYPE, "application/json")], json).into_response())
        }
        Err(Refusal::Picture(message)) => Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, message)),
        Err(Refusal::Inner(error)) => Err(failure(&app, &error)),
    }
}

fn no_place(reason: NoPlace) -> Problem {
    let message = match reason {
        NoPlace::Full => "the model is busy and its queue is full; try again shortly",
        NoPlace::Closed => "the server is stopping",
    };
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, message)
}

/// A failure may name local files, which clients must not see.
fn failure(app: &App, error: &anyhow::Error) -> Problem {
    (app.log)(&describe(error));
    let message = "the model failed on this picture; see the terminal of the server for the reason";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, message)
}
