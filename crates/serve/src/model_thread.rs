//! The thread of the model, separate from the one that serves clients.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::body::Image;
use super::describe::{Answer, Describe, Refusal, Request};
use super::queue::{Outcome, Queue};
use base::threads;

/// How often to check whether the thread has ended; a thread cannot be awaited.
const POLL: Duration = Duration::from_millis(10);

/// Describes pictures from the queue until it is closed.
pub(super) fn start(mut model: impl Describe, queue: Arc<Queue>) -> anyhow::Result<JoinHandle<()>> {
    threads::spawn("model", move || {
        while let Some(job) = queue.next() {
            let started = std::time::Instant::now();
            let Image { bytes, room } = job.image;
            let result = describe(&mut model, bytes, &job.request);
            drop(room);
            let milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            // The client may have disconnected.
            let _ = job.reply.send(Outcome { result, milliseconds });
        }
    })
}

/// Waits for the end of the thread until `deadline`; returns whether it ended.
pub(super) async fn ended(thread: &JoinHandle<()>, deadline: Instant) -> bool {
    let end = async {
        while !thread.is_finished() {
            sleep(POLL).await;
        }
    };
    timeout_at(deadline, end).await.is_ok()
}

/// Describes one picture. A panic, for instance in an image decoder, only affects this picture: the model is not
/// modified.
fn describe(model: &mut impl Describe, image: Vec<u8>, request: &Request) -> Result<Answer, Refusal> {
    let described = catch_unwind(AssertUnwindSafe(|| model.describe(image, request)));
    let answer = described.unwrap_or_else(|panic| {
        Err(Refusal::Inner(anyhow::anyhow!("the model panicked on a picture: {}", message(panic.as_ref()))))
    })?;
    answer.check()?;
    Ok(answer)
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
