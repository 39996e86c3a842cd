//! The HTTP library answers invalid requests itself, without content: such answers are held back and replaced with
//! ours.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::http::StatusCode;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::problem::Problem;

/// Bytes of an answer that are kept, for its status.
const MAX_HELD: usize = 64;

/// A stream that sends nothing until there is a valid request.
pub(super) struct Unanswered {
    stream: TokioIo<TcpStream>,
    has_request: Arc<AtomicBool>,
    held: Vec<u8>,
}

impl Unanswered {
    /// `has_request` is set when the request is received.
    pub(super) fn new(stream: TcpStream, has_request: Arc<AtomicBool>) -> Self {
        Self { stream: TokioIo::new(stream), has_request, held: Vec::new() }
    }

    /// Our answer to an invalid request for which the library gave this error; `has_begun` says whether part of a head
    /// came.
    pub(super) fn refusal(&self, error: &hyper::Error, has_begun: bool) -> Option<Problem> {
        if self.has_request.load(Ordering::Relaxed) {
            return None;
        }
        let held = self.held.get(9..12).and_then(|code| StatusCode::from_bytes(code).ok());
        let status = match held {
            Some(status) => status,
            None if error.is_timeout() && has_begun => StatusCode::REQUEST_TIMEOUT,
            None if error.is_parse() => StatusCode::BAD_REQUEST,
            None => return None,
        };
        let message = match status {
            StatusCode::REQUEST_TIMEOUT => "the head of the request did not arrive in time",
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => "the head of the request is too large",
            StatusCode::URI_TOO_LONG => "the address of the request is too long",
            _ => "not an HTTP/1.1 request",
        };
        Some(Problem::new(status, message))
    }

    pub(super) fn into_stream(self) -> TcpStream {
        self.stream.into_inner()
    }
}

impl Read for Unanswered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl Write for Unanswered {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.has_request.load(Ordering::Relaxed) {
            return Pin::new(&mut self.stream).poll_write(context, bytes);
        }
        let room = MAX_HELD - self.held.len();
        self.held.extend(bytes.iter().take(room));
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
