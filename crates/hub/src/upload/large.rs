//! Uploads one large content to the storage: in one piece or in parts, and again with new addresses when they have
//! expired.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::header::{AUTHORIZATION, ETAG, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use serde_json::json;

use super::api::{Action, Actions, Api, lfs_headers};
use super::calls::{Answer, Body, Flow, Request};
use super::content::{Check, Content};
use crate::http_client::Failure;
use crate::transfer::Meter;
use base::digest::Hasher;

/// The Hub's addresses are valid for at least fifteen minutes, for requests that start within that time.
const FRESH: Duration = Duration::from_secs(5 * 60);
/// Times that new addresses for one content are requested after the storage refused.
const MAX_RENEWALS: u32 = 2;
/// The prefix of addresses from a Hub that does not know its other name.
const PUBLIC_HUB: &str = "https://huggingface.co/";
/// The limit of S3.
const MAX_PARTS: u64 = 10_000;

/// A content that the storage does not have.
pub(super) struct Large<'a> {
    pub(super) api: &'a Api<'a>,
    pub(super) content: &'a Content,
    pub(super) sha256: &'a str,
    /// The name in messages.
    pub(super) title: &'a str,
}

impl Large<'_> {
    /// Uploads the content; `actions` are the Hub's instructions from the moment `said`.
    ///
    /// # Errors
    /// A [`Failure`] of the server, the storage or the network; a file that cannot be read or has changed; a stop.
    pub(super) fn send(&self, actions: Actions, said: Instant) -> anyhow::Result<()> {
        let mut actions = if said.elapsed() < FRESH { Some(actions) } else { self.ask()? };
        let mut renewals = 0;
        while let Some(now) = actions {
            let failure = match self.transfer(&now) {
                Ok(()) => return Ok(()),
                Err(error) => error.downcast::<Failure>()?,
            };
            // Addresses expire, and a lost answer may have been a success.
            let may_be_over = matches!(failure, Failure::Refused(_)) && !failure.may_pass();
            if !may_be_over || renewals >= MAX_RENEWALS {
                return Err(failure.into());
            }
            renewals += 1;
            actions = self.ask()?;
        }
        Ok(())
    }

    fn ask(&self) -> anyhow::Result<Option<Actions>> {
        Ok(self.api.missing(&[(self.sha256, self.content.bytes)])?.remove(self.sha256))
    }

    fn transfer(&self, actions: &Actions) -> anyhow::Result<()> {
        let Some(upload) = &actions.upload else { return Ok(()) };
        let mut meter = Meter::start_upload(self.title, self.content.bytes);
        match upload.header.as_ref().and_then(|header| header.get("chunk_size")) {
            Some(part_bytes) => self.send_parts(upload, &parts(upload, part_bytes, self.content.bytes)?, &mut meter)?,
            None => {
                let (url, headers) = (self.address(&upload.href)?, headers_of(upload));
                self.put(&url, &headers, 0, self.content.bytes, &Hasher::new(), &mut meter)?;
            }
        }
        drop(meter);
        if let Some(verify) = &actions.verify {
            let (url, headers) = (self.address(&verify.href)?, headers_of(verify));
            let body = json!({"oid": self.sha256, "size": self.content.bytes});
            self.api.calls.patiently(self.title, || {
                let mut request = self.api.calls.request(Method::POST, url.clone(), Body::Json(body.clone()));
                request.headers.extend(headers.clone());
                request
            })?;
        }
        Ok(())
    }

    fn send_parts(&self, upload: &Action, parts: &[Part<'_>], meter: &mut Option<Meter>) -> anyhow::Result<()> {
        let mut hasher = Hasher::new();
        let mut received = Vec::new();
        for (part, number) in parts.iter().zip(1u32..) {
            let url = self.address(part.href)?;
            let (answer, sent) = self.put(&url, &HeaderMap::new(), part.from, part.bytes, &hasher, meter)?;
            hasher = sent;
            let Some(tag) = answer.headers.get(ETAG).and_then(|tag| tag.to_str().ok()) else {
                return Err(Failure::Malformed("the storage does not give the tag of a part".to_owned()).into());
            };
            received.push(json!({"partNumber": number, "etag": tag}));
        }
        let url = self.address(&upload.href)?;
        let body = json!({"oid": self.sha256, "parts": received});
        self.api.calls.patiently(self.title, || {
            let (url, body) = (url.clone(), Body::Json(body.clone()));
            // The address has its own key; the Hub's tools send no token either.
            Request { method: Method::POST, url, headers: lfs_headers(), body }
        })?;
        Ok(())
    }

    /// Sends bytes, all of them again after each temporary failure; `before` is the digest of those before them.
    /// Returns the digest up to their end.
    fn put(
        &self,
        url: &Url,
        headers: &HeaderMap,
        from: u64,
        bytes: u64,
        before: &Hasher,
        meter: &mut Option<Meter>,
    ) -> anyhow::Result<(Answer, Hasher)> {
        let calls = &self.api.calls;
        let mut retries = calls.http.retries(self.title);
        loop {
            let check = match from + bytes == self.content.bytes {
                true => Check::Now(before.clone(), self.sha256.to_owned()),
                false => Check::Later(before.clone()),
            };
            let flow = Arc::new(Flow::new(calls.stop));
            let pieces = Box::new(self.content.pieces(from, bytes, check, Arc::clone(&flow)));
            let (url, headers) = (url.clone(), headers.clone());
            let request = Request { method: Method::PUT, url, headers, body: Body::Pieces { pieces, bytes } };
            let mut shown = |handed_over: u64| {
                if let Some(meter) = meter {
                    meter.reach(from + handed_over);
                }
            };
            match calls.once(request, &flow, &mut shown) {
                Ok(answer) => {
                    let early = || Failure::Malformed("the storage answered before it had the whole file".to_owned());
                    return Ok((answer, flow.kept().ok_or_else(early)?));
                }
                Err(error) => calls.pause(retries.next_wait(error.downcast::<Failure>()?)?)?,
            }
        }
    }

    fn address(&self, href: &str) -> Result<Url, Failure> {
        let endpoint = &self.api.calls.http.endpoint;
        let url = match href.strip_prefix(PUBLIC_HUB) {
            Some(rest) => Url::parse(&format!("{}/{rest}", endpoint.as_str().trim_end_matches('/'))),
            None => Url::parse(href),
        };
        // The address is not shown: it may contain a key.
        url.ok()
            .filter(|url| ["http", "https"].contains(&url.scheme()))
            .ok_or_else(|| Failure::Malformed("the server gives an invalid address of its storage".to_owned()))
    }
}

/// Bytes of the content with an address of their own.
struct Part<'a> {
    href: &'a str,
    from: u64,
    bytes: u64,
}

/// The parts of a content of `bytes` bytes: their addresses are named by numbers.
fn parts<'a>(upload: &'a Action, part_bytes: &serde_json::Value, bytes: u64) -> Result<Vec<Part<'a>>, Failure> {
    let wrong = || Failure::Malformed("the server's list of parts does not fit the file".to_owned());
    let written = part_bytes.as_u64().or_else(|| part_bytes.as_str()?.parse().ok());
    let part_bytes = written.filter(|&part_bytes| part_bytes > 0).ok_or_else(wrong)?;
    let header = upload.header.iter().flatten();
    let is_number = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
    let numbered = header.filter(|(name, _)| is_number(name));
    let mut addresses: Vec<(u64, &str)> =
        numbered.filter_map(|(name, href)| Some((name.parse().ok()?, href.as_str()?))).collect();
    addresses.sort_unstable();
    let num_parts = bytes.div_ceil(part_bytes);
    let are_in_order = addresses.iter().zip(1..).all(|((number, _), expected)| *number == expected);
    if num_parts > MAX_PARTS || addresses.len() as u64 != num_parts || !are_in_order {
        return Err(wrong());
    }
    let part = |((_, href), from): ((u64, &'a str), u64)| Part { href, from, bytes: part_bytes.min(bytes - from) };
    Ok(addresses.into_iter().zip((0..num_parts).map(|index| index * part_bytes)).map(part).collect())
}

/// The headers that the server wants with an action.
fn headers_of(action: &Action) -> HeaderMap {
    let header = action.header.iter().flatten();
    let sent = header.filter_map(|(name, value)| {
        let mut value = HeaderValue::from_str(value.as_str()?).ok()?;
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        value.set_sensitive(name == AUTHORIZATION);
        Some((name, value))
    });
    sent.collect()
}
