//! What the Hub thinks of a model card, asked before anything is sent: a commit with a bad one is refused, and by then all
//! large files have been sent.

use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::api::Api;
use super::calls::Body;
use super::content::Content;
use crate::http_client::{Failure, printable};
use base::fault::WithHint as _;
use base::terminal::{detail, warning};

/// The path of a model card.
pub(super) const CARD: &str = "README.md";
/// A longer one is judged with the commit.
const MOST_BYTES: u64 = 1 << 20;

/// Warns of what the Hub would like otherwise.
///
/// # Errors
/// What the Hub would refuse; a card that cannot be read; a stop. A server that does not judge is no error.
pub(super) fn check(api: &Api<'_>, card: &Content) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct Judgement {
        #[serde(default)]
        warnings: Vec<Remark>,
    }
    #[derive(Deserialize)]
    struct Remark {
        message: String,
    }
    if card.bytes > MOST_BYTES {
        return Ok(());
    }
    let text = card.read(api.calls.stop)?;
    let body = json!({"content": String::from_utf8_lossy(&text), "repoType": "model"});
    let url = api.calls.http.address_of(["api", "validate-yaml"])?;
    let request = || api.calls.request(Method::POST, url.clone(), Body::Json(body.clone()));
    let judgement = api.calls.patiently(CARD, request).and_then(|answer| Ok(answer.json("judgement of a card")?));
    let failure = match judgement {
        Ok(Judgement { warnings }) => {
            for Remark { message } in warnings {
                warning(&format!("{CARD}: {}", printable(&message)));
            }
            return Ok(());
        }
        Err(error) => error.downcast::<Failure>()?,
    };
    if failure.is_refused_with(StatusCode::BAD_REQUEST) {
        return Err(anyhow::Error::new(failure).context(format!("the Hub would refuse the metadata of {CARD}")))
            .hint(|| "correct what stands between the lines --- at its beginning");
    }
    detail(&format!("{CARD} is not judged: {failure}"));
    Ok(())
}
