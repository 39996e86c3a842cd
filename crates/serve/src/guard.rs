//! Which requests are admitted.
//!
//! A server on 127.0.0.1 can be reached by every page that is open in the user's browser. Three rules keep those out:
//! - The `Host` must be a name of this machine with our port. A page of another site whose name resolves to 127.0.0.1
//!   (DNS rebinding) has another one.
//! - A `POST` must come from our own page, or from a program that is not a browser: browsers send `Origin` and
//!   `Sec-Fetch-Site`, which no script can change.
//! - A picture must have a content type that no HTML form can send, so that a browser has to ask before another site
//!   sends one (a CORS preflight), and is refused.

use axum::http::header::{CONTENT_TYPE, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, Uri};

use super::problem::Problem;

/// Names of this machine, as browsers write them. None of them needs a DNS lookup.
const NAMES: [&str; 3] = ["127.0.0.1", "localhost", "[::1]"];

/// The port that browsers omit.
const DEFAULT_PORT: u16 = 80;

/// Whether a request is admitted.
///
/// # Errors
/// Status 421: it is for another host. Status 403: another site sent it.
pub(super) fn admit(method: &Method, uri: &Uri, headers: &HeaderMap, port: u16) -> Result<(), Problem> {
    let host = own_host(uri, headers, port).ok_or_else(|| {
        let message = format!(
            "this server only answers to 127.0.0.1:{port} and localhost:{port}; a tunnel to it must use the same port on \
             both ends"
        );
        Problem::new(StatusCode::MISDIRECTED_REQUEST, message)
    })?;
    if matches!(*method, Method::GET | Method::HEAD) || is_from_here(headers, host) {
        return Ok(());
    }
    Err(Problem::new(StatusCode::FORBIDDEN, "pictures are only accepted from this server's own page"))
}

/// Whether the content type is one of a picture, else status 415.
pub(super) fn check_content_type(headers: &HeaderMap) -> Result<(), Problem> {
    let found = only(headers, &CONTENT_TYPE).unwrap_or("").split(';').next().unwrap_or("").trim();
    let found = found.to_ascii_lowercase();
    if found == "application/octet-stream" || found.strip_prefix("image/").is_some_and(|kind| !kind.is_empty()) {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        format!(
            "content-type: expected image/jpeg, image/png, image/webp or application/octet-stream, found {found:?}"
        ),
    ))
}

/// The `Host`, if it is us. A host in the request line must be the same.
fn own_host<'a>(uri: &Uri, headers: &'a HeaderMap, port: u16) -> Option<&'a str> {
    let host = only(headers, &HOST).filter(|host| names_us(host, port))?;
    let named = uri.authority().is_none_or(|authority| authority.as_str().eq_ignore_ascii_case(host));
    named.then_some(host)
}

fn names_us(authority: &str, port: u16) -> bool {
    let authority = authority.to_ascii_lowercase();
    NAMES.iter().filter_map(|name| authority.strip_prefix(name)).any(|rest| match rest.strip_prefix(':') {
        Some(found) => found == port.to_string(),
        None => rest.is_empty() && port == DEFAULT_PORT,
    })
}

/// Whether our own page sent it, or a program that is not a browser and sends neither header.
fn is_from_here(headers: &HeaderMap, host: &str) -> bool {
    let own_origin =
        |origin: &str| origin.strip_prefix("http://").is_some_and(|origin| origin.eq_ignore_ascii_case(host));
    let is_own_origin = !headers.contains_key(ORIGIN) || only(headers, &ORIGIN).is_some_and(own_origin);
    let is_own_site = !headers.contains_key("sec-fetch-site")
        || only(headers, &HeaderName::from_static("sec-fetch-site")).is_some_and(|site| site == "same-origin");
    is_own_origin && is_own_site
}

/// The value of a header that occurs exactly once and is plain text.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    fn status(method: Method, uri: &str, pairs: &[(&'static str, &str)], port: u16) -> u16 {
        let admitted = admit(&method, &uri.parse().unwrap(), &headers(pairs), port);
        admitted.map_or_else(|problem| problem.status.as_u16(), |()| 200)
    }

    #[test]
    fn host_must_be_this_machine_with_our_port() {
        let get = |host: &str, port| status(Method::GET, "/", &[("host", host)], port);
        for host in ["127.0.0.1:7860", "localhost:7860", "LocalHost:7860", "[::1]:7860"] {
            assert_eq!(get(host, 7860), 200, "{host}");
        }
        for host in [
            "evil.example:7860",
            "127.0.0.1",
            "127.0.0.1:80",
            "127.0.0.1:78600",
            "127.0.0.1.evil.example:7860",
            "localhost.:7860",
            "localhost.evil.example:7860",
            "user@localhost:7860",
            "127.0.0.2:7860",
            "::1:7860",
            "",
            ":7860",
            "localhost:7860\u{e9}",
        ] {
            assert_eq!(get(host, 7860), 421, "{host}");
        }
        assert_eq!((get("localhost", 80), get("localhost:80", 80), get("localhost", 81)), (200, 200, 421));
        assert_eq!(status(Method::GET, "/", &[], 7860), 421);
        let twice = [("host", "localhost:7860"), ("host", "localhost:7860")];
        assert_eq!(status(Method::GET, "/", &twice, 7860), 421);
    }

    #[test]
    fn host_in_the_request_line_must_be_the_same() {
        let host = [("host", "localhost:7860")];
        assert_eq!(status(Method::GET, "http://localhost:7860/", &host, 7860), 200);
        assert_eq!(status(Method::GET, "http://evil.example/", &host, 7860), 421);
    }

    #[test]
    fn picture_is_taken_from_our_page_and_from_programs_alone() {
        let post = |pairs: &[(&'static str, &str)]| {
            status(Method::POST, "/", &[&[("host", "localhost:7860")], pairs].concat(), 7860)
        };
        assert_eq!(post(&[]), 200);
        assert_eq!(post(&[("origin", "http://localhost:7860")]), 200);
        assert_eq!(post(&[("origin", "http://localhost:7860"), ("sec-fetch-site", "same-origin")]), 200);
        for pairs in [
            [("origin", "http://evil.example"), ("sec-fetch-site", "same-origin")],
            [("origin", "null"), ("sec-fetch-site", "same-origin")],
            [("origin", "https://localhost:7860"), ("sec-fetch-site", "same-origin")],
            [("origin", "http://localhost:7861"), ("sec-fetch-site", "same-origin")],
            [("origin", "http://127.0.0.1:7860"), ("sec-fetch-site", "same-origin")],
            [("origin", "http://localhost:7860"), ("sec-fetch-site", "cross-site")],
            [("origin", "http://localhost:7860"), ("sec-fetch-site", "same-site")],
            [("origin", "http://localhost:7860"), ("sec-fetch-site", "none")],
            [("origin", "http://localhost:7860"), ("sec-fetch-site", "")],
            [("origin", "http://localhost:7860"), ("origin", "http://evil.example")],
        ] {
            assert_eq!(post(&pairs), 403, "{pairs:?}");
        }
    }

    #[test]
    fn another_site_may_link_to_the_page() {
        let pairs = [("host", "localhost:7860"), ("sec-fetch-site", "cross-site")];
        assert_eq!(status(Method::GET, "/", &pairs, 7860), 200);
    }

    #[test]
    fn body_that_a_form_can_send_is_refused() {
        let allowed = |value| check_content_type(&headers(&[("content-type", value)])).is_ok();
        for value in ["image/png", "IMAGE/JPEG", "image/png; x=y", "application/octet-stream"] {
            assert!(allowed(value), "{value}");
        }
        for value in
            ["text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "image/", ""]
        {
            assert!(!allowed(value), "{value}");
        }
        assert_eq!(check_content_type(&HeaderMap::new()).unwrap_err().status.as_u16(), 415);
    }
}
