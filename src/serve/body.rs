//! Takes in the picture of a request, up to a size and for a time.

use axum::body::Body;
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use tokio::time::timeout;

use super::limits::Limits;
use super::problem::Problem;

/// The whole body.
///
/// # Errors
/// Status 413: larger than it may be, which is told before the body is read where its length is declared. Status 408:
/// it takes too long. Status 400: it breaks off. Status 422: it is empty.
pub(super) async fn read(headers: &HeaderMap, body: Body, limits: &Limits) -> Result<Vec<u8>, Problem> {
    let declared = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > limits.body_bytes as u64) {
        return Err(too_large(limits));
    }
    let image = timeout(limits.body, collect(body, limits)).await.map_err(|_| {
        let seconds = limits.body.as_secs_f64();
        Problem::new(StatusCode::REQUEST_TIMEOUT, format!("the picture did not arrive within {seconds} seconds"))
    })??;
    if image.is_empty() {
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "the request holds no picture: its body is empty"));
    }
    Ok(image)
}

async fn collect(mut body: Body, limits: &Limits) -> Result<Vec<u8>, Problem> {
    let mut image = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "the picture broke off on its way"))?;
        // What is no data are trailers, which say nothing here.
        let Ok(data) = frame.into_data() else { continue };
        if image.len() + data.len() > limits.body_bytes {
            return Err(too_large(limits));
        }
        image.extend_from_slice(&data);
    }
    Ok(image)
}

fn too_large(limits: &Limits) -> Problem {
    let limit = limits.body_bytes;
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the picture has more than {limit} bytes; store it smaller"))
}
