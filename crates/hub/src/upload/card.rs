//! Has the Hub check a model card before anything is sent: a commit with an invalid one is refused, and by then all
//! large files have been sent.

use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::api::Api;
use super::calls::Body;
use super::content::Content;
use crate::http_client::{Failure, printable};
use base::error::explained;
use base::terminal::{detail, warning};

/// The path of a model card.
pub(super) const CARD: &str = "README.md";
/// A longer one is checked with the commit.
const MAX_BYTES: u64 = 1 << 20;

/// Prints the Hub's warnings.
///
/// # Errors
/// A card that the Hub would refuse or that cannot be read; a stop. A server that cannot check cards is not an error.
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
    if card.bytes > MAX_BYTES {
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
        let refused = format!("the Hub would refuse the metadata of {CARD}");
        return Err(explained(failure.into(), refused, "correct the block between the --- lines at its start"));
    }
    detail(&format!("{CARD} was not checked: {failure}"));
    Ok(())
}
