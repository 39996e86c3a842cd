//! The commit: one request with the small files and the names of the large ones.

use std::io;
use std::iter;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use serde::Deserialize;
use serde_json::json;

use super::api::{Api, BRANCH};
use super::calls::{Body, BodyPieces, Flow};
use super::content::{Check, Content, Mode};
use crate::http_client::Failure;
use crate::model_id::is_commit;
use base::digest::Hasher;

/// A file whose content the repository lacks.
pub(super) struct Change<'a> {
    pub(super) content: &'a Content,
    pub(super) mode: Mode,
    pub(super) sha256: &'a str,
}

/// Makes the commit on top of `parent`, in one try; returns its full hash.
///
/// # Errors
/// A [`Failure`], after which it is unknown whether the commit was made; a file that cannot be read or has changed; a
/// stop.
pub(super) fn commit(
    api: &Api<'_>,
    parent: Option<&str>,
    message: &str,
    changes: &[Change<'_>],
) -> anyhow::Result<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Committed {
        commit_oid: String,
    }
    let flow = Arc::new(Flow::new(api.calls.stop));
    let body = body(parent, message, changes, &flow);
    let mut request = api.calls.request(Method::POST, api.model(&["commit", BRANCH])?, body);
    request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    let Committed { commit_oid } = api.calls.once(request, &flow, |_| {})?.json("answer to a commit")?;
    if is_commit(&commit_oid) {
        return Ok(commit_oid);
    }
    Err(Failure::Malformed("the server's answer to the commit does not name it".to_owned()).into())
}

/// One line of JSON for each change. The small files are read while they are sent.
fn body(parent: Option<&str>, message: &str, changes: &[Change<'_>], flow: &Arc<Flow>) -> Body {
    let mut header = json!({"summary": message, "description": ""});
    if let Some(parent) = parent {
        // The server refuses if another client, or an earlier try, has committed meanwhile.
        header["parentCommit"] = parent.into();
    }
    let mut lines = Lines { pieces: Vec::new(), bytes: 0 };
    lines.add_text(format!("{}\n", json!({"key": "header", "value": header})));
    for Change { content, mode, sha256 } in changes {
        match mode {
            Mode::Lfs => {
                let value = json!({"path": content.name, "algo": "sha256", "oid": sha256, "size": content.bytes});
                lines.add_text(format!("{}\n", json!({"key": "lfsFile", "value": value})));
            }
            Mode::Regular => {
                lines.add_text(r#"{"key":"file","value":{"content":""#.to_owned());
                lines.add_encoded(content, sha256, flow);
                let path = serde_json::Value::from(content.name.as_str());
                lines.add_text(format!("\",\"path\":{path},\"encoding\":\"base64\"}}}}\n"));
            }
        }
    }
    Body::Pieces { pieces: Box::new(lines.pieces.into_iter().flatten()), bytes: lines.bytes }
}

struct Lines {
    pieces: Vec<BodyPieces>,
    bytes: u64,
}

impl Lines {
    fn add_text(&mut self, text: String) {
        self.bytes += text.len() as u64;
        self.pieces.push(Box::new(iter::once(Ok(text.into_bytes()))));
    }

    /// The content in base64.
    fn add_encoded(&mut self, content: &Content, sha256: &str, flow: &Arc<Flow>) {
        let check = Check::Now(Hasher::new(), sha256.to_owned());
        let raw = content.pieces(0, content.bytes, check, Arc::clone(flow));
        let encoded = raw.map(|piece: io::Result<Vec<u8>>| Ok(STANDARD.encode(piece?).into_bytes()));
        self.bytes += content.bytes.div_ceil(3) * 4;
        self.pieces.push(Box::new(encoded));
    }
}
