//! Reads the picture of a request, with limits on size and time, when there is memory for it.

use std::sync::Arc;

use axum::body::Body;
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::limits::Limits;
use super::problem::Problem;

/// Bytes per permit.
const ROOM_UNIT: usize = 1024;

/// The content of a picture's file, with its reserved memory.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) bytes: Vec<u8>,
    pub(super) room: OwnedSemaphorePermit,
}

/// The memory for all pictures.
pub(super) fn room(limits: &Limits) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(units(limits.all_bodies_bytes.max(limits.body_bytes)) as usize))
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(ROOM_UNIT)).unwrap_or(u32::MAX)
}

/// The whole body.
///
/// # Errors
/// Status 503: no memory in time. Status 413: too large, reported before the body is read if its length is declared.
/// Status 408: timeout. Status 400: incomplete. Status 422: empty.
pub(super) async fn read(
    headers: &HeaderMap,
    body: Body,
    limits: &Limits,
    room: &Arc<Semaphore>,
) -> Result<Image, Problem> {
    let declared = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > limits.body_bytes as u64) {
        return Err(too_large(limits));
    }
    let max = declared.map_or(limits.body_bytes, |length| length as usize);
    let permit = timeout(limits.body, Arc::clone(room).acquire_many_owned(units(max))).await.map_err(|_| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too many large pictures are being processed; try again shortly")
    })?;
    let permit = permit.expect("the semaphore is never closed");
    let bytes = timeout(limits.body, collect(body, max, limits)).await.map_err(|_| {
        let seconds = limits.body.as_secs_f64();
        Problem::new(StatusCode::REQUEST_TIMEOUT, format!("the picture did not arrive within {seconds} seconds"))
    })??;
    if bytes.is_empty() {
        return Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "the request contains no picture: its body is empty",
        ));
    }
    Ok(Image { bytes, room: permit })
}

/// At max `max` bytes, in a buffer that is not moved while it grows.
async fn collect(mut body: Body, max: usize, limits: &Limits) -> Result<Vec<u8>, Problem> {
    let mut image = Vec::with_capacity(max);
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "the picture did not arrive completely"))?;
        // Frames without data are trailers, which are ignored.
        let Ok(data) = frame.into_data() else { continue };
        if image.len() + data.len() > max {
            return Err(too_large(limits));
        }
        image.extend_from_slice(&data);
    }
    Ok(image)
}

fn too_large(limits: &Limits) -> Problem {
    let limit = limits.body_bytes;
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the picture has more than {limit} bytes; use a smaller one"))
}
