//! The server of the page over real sockets, with a double for the model.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Value, json};
use serve::{Alternative, Answer, Describe, Limits, Refusal, Region, Request, Server, Settings, Word};

/// Longer than anything here takes; it ends a test that hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// Describes what the first bytes of a picture ask for, and tells which pictures it gets. A picture that begins with
/// `held` is described when the test says so.
struct Double {
    seen: Sender<(Vec<u8>, Request)>,
    release: Receiver<()>,
}

impl Describe for Double {
    fn describe(&mut self, image: Vec<u8>, request: &Request) -> Result<Answer, Refusal> {
        let _ = self.seen.send((image.clone(), request.clone()));
        if image.starts_with(b"held") {
            let _ = self.release.recv();
        }
        match &image[..] {
            b"unreadable" => Err(Refusal::Picture("the JPEG is truncated".to_owned())),
            b"failure" => Err(Refusal::Inner(anyhow::anyhow!("cannot read /secret/model.safetensors"))),
            b"panic" => panic!("an index of /secret is out of bounds"),
            b"mismatch" => Ok(Answer { patches: [9, 9], ..answer(request) }),
            _ => Ok(answer(request)),
        }
    }
}

fn answer(request: &Request) -> Answer {
    let attention = request.attention.then(|| vec![0.5, 0.25]);
    Answer {
        caption: "a dog".to_owned(),
        words: ["a", "dog"].map(|text| Word { text: text.to_owned(), attention: attention.clone() }).to_vec(),
        log_probability: -1.5,
        alternatives: (1..request.num_captions)
            .map(|_| Alternative { caption: "a <b>cat</b>".to_owned(), log_probability: -2.0 })
            .collect(),
        patches: [1, 2],
        region: Region { left: 0.0, top: 0.0, width: 1.0, height: 1.0 },
    }
}

struct Running {
    address: SocketAddr,
    seen: Receiver<(Vec<u8>, Request)>,
    release: Option<Sender<()>>,
    log: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Running {
    fn start(limits: Limits) -> Self {
        let server = Server::bind(0).unwrap();
        let address = server.address();
        let (see, seen) = channel();
        let (release, released) = channel();
        let (log, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let settings = Settings { model: "runs/double".to_owned(), limits };
        let thread = thread::spawn({
            let (log, stop) = (Arc::clone(&log), Arc::clone(&stop));
            let tell = move |text: &str| log.lock().unwrap().push(text.to_owned());
            move || server.run(Double { seen: see, release: released }, settings, tell, || stop.load(Ordering::Relaxed))
        });
        Self { address, seen, release: Some(release), log, stop, thread: Some(thread) }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends these bytes and reads to the end.
    fn exchange(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        // A server that has refused already may not take the rest.
        let _ = stream.write_all(bytes);
        rest(&mut stream)
    }

    fn host(&self) -> String {
        format!("127.0.0.1:{}", self.address.port())
    }

    fn get(&self, path: &str) -> String {
        self.exchange(format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.host()).as_bytes())
    }

    fn post_bytes(&self, query: &str, headers: &str, image: &[u8]) -> Vec<u8> {
        let (host, length) = (self.host(), image.len());
        let head =
            format!("POST /api/caption{query} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n{headers}\r\n");
        [head.as_bytes(), image].concat()
    }

    fn post(&self, query: &str, image: &[u8]) -> String {
        self.exchange(&self.post_bytes(query, "Content-Type: image/png\r\n", image))
    }

    /// A connection whose picture is under way.
    fn begin(&self, image: &[u8]) -> TcpStream {
        let mut stream = self.connect();
        stream.write_all(&self.post_bytes("", "Content-Type: image/png\r\n", image)).unwrap();
        stream
    }

    fn next_seen(&self) -> Vec<u8> {
        self.seen.recv_timeout(PATIENCE).unwrap().0
    }

    fn release(&self) {
        self.release.as_ref().unwrap().send(()).unwrap();
    }

    fn stop(&mut self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.release = None;
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            panic!("no end of the answer, after {:?}", String::from_utf8_lossy(&bytes))
        }
        // A reset connection has ended too.
        _ => String::from_utf8_lossy(&bytes).into_owned(),
    }
}

fn status(response: &str) -> u16 {
    let code = response.strip_prefix("HTTP/1.1 ").or_else(|| response.strip_prefix("HTTP/1.0 "));
    code.and_then(|code| code.get(..3)?.parse().ok()).unwrap_or_else(|| panic!("no status: {response:?}"))
}

fn content(response: &str) -> Value {
    serde_json::from_str(response.split_once("\r\n\r\n").unwrap().1).unwrap()
}

fn error(response: &str) -> String {
    content(response)["error"].as_str().unwrap().to_owned()
}

fn header<'a>(response: &'a str, name: &str) -> Option<&'a str> {
    let head = response.split_once("\r\n\r\n").unwrap().0;
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

#[test]
fn page_and_its_files_are_served() {
    let server = Running::start(Limits::default());
    for (path, content_type, part) in [
        ("/", "text/html; charset=utf-8", "<!doctype html>"),
        ("/page.css", "text/css; charset=utf-8", "prefers-color-scheme: dark"),
        ("/page.js", "text/javascript; charset=utf-8", "createImageBitmap"),
    ] {
        let response = server.get(path);
        assert_eq!((status(&response), header(&response, "content-type")), (200, Some(content_type)), "{path}");
        assert!(response.contains(part), "{path}");
    }
    let head = server.exchange(format!("HEAD / HTTP/1.1\r\nHost: {}\r\n\r\n", server.host()).as_bytes());
    assert_eq!(status(&head), 200);
    assert!(head.ends_with("\r\n\r\n"));
}

#[test]
fn every_response_is_sealed_and_none_allows_another_origin() {
    let server = Running::start(Limits::default());
    let foreign = server.exchange(b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    let no_request = server.exchange(b"* * *\r\n\r\n");
    let answers = [server.get("/"), server.get("/nothing"), server.get("/health"), server.post("", b"x")];
    for response in answers.into_iter().chain([server.post("?x", b"x"), foreign, no_request]) {
        let policy = header(&response, "content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "same-origin"),
            ("cache-control", "no-store"),
            ("cross-origin-resource-policy", "same-origin"),
            ("connection", "close"),
        ] {
            assert_eq!(header(&response, name), Some(value), "{response}");
        }
        assert!(!response.to_lowercase().contains("access-control"), "{response}");
    }
}

#[test]
fn picture_gets_its_caption_as_json() {
    let server = Running::start(Limits::default());
    let response = server.post("?num_captions=2&num_beams=4&attention=true", b"picture");
    assert_eq!((status(&response), header(&response, "content-type")), (200, Some("application/json")));
    let mut content = content(&response);
    assert!(content.as_object_mut().unwrap().remove("milliseconds").unwrap().is_u64());
    let word = |text: &str| json!({ "text": text, "attention": [0.5, 0.25] });
    let expected = json!({
        "caption": "a dog",
        "words": [word("a"), word("dog")],
        "log_probability": -1.5,
        "alternatives": [{ "caption": "a <b>cat</b>", "log_probability": -2.0 }],
        "patches": [1, 2],
        "region": { "left": 0.0, "top": 0.0, "width": 1.0, "height": 1.0 },
        "model": "runs/double",
    });
    assert_eq!(content, expected);
    let request = Request { num_captions: 2, num_beams: Some(4), attention: true, prompt: None };
    assert_eq!(server.seen.recv_timeout(PATIENCE).unwrap(), (b"picture".to_vec(), request));
}

#[test]
fn chunked_picture_is_taken() {
    let server = Running::start(Limits::default());
    let response = server.exchange(
        format!(
            "POST /api/caption HTTP/1.1\r\nHost: {}\r\nContent-Type: application/octet-stream\r\n\
             Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
            server.host()
        )
        .as_bytes(),
    );
    assert_eq!((status(&response), server.next_seen()), (200, b"abcde".to_vec()));
}

#[test]
fn unusable_picture_is_explained_and_an_inner_failure_is_reported_to_the_log_alone() {
    let server = Running::start(Limits::default());
    let response = server.post("", b"unreadable");
    assert_eq!((status(&response), error(&response).as_str()), (422, "the JPEG is truncated"));
    let response = server.post("", b"");
    assert_eq!(status(&response), 422);
    for image in [&b"failure"[..], b"panic", b"mismatch"] {
        let response = server.post("?attention=true", image);
        assert_eq!(status(&response), 500);
        assert!(!response.contains("secret") && !response.contains("weights"), "{response}");
    }
    let log = server.log.lock().unwrap().clone();
    assert_eq!(log.len(), 3, "{log:?}");
    assert!(log[0].contains("/secret/model.safetensors"), "{log:?}");
    assert!(log[1].contains("an index of /secret is out of bounds"), "{log:?}");
    assert!(log[2].contains("expected one for each of 9 x 9 patches"), "{log:?}");
    assert_eq!(status(&server.post("", b"picture")), 200);
}

#[test]
fn other_hosts_and_other_sites_are_kept_out() {
    let server = Running::start(Limits::default());
    for host in ["evil.example", "127.0.0.1", "127.0.0.1:1", "[::1]:1", ""] {
        let response = server.exchange(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
        assert_eq!(status(&response), 421, "{host}");
    }
    assert_eq!(status(&server.exchange(b"GET / HTTP/1.0\r\n\r\n")), 421);
    let named = format!("GET http://evil.example/ HTTP/1.1\r\nHost: {}\r\n\r\n", server.host());
    assert_eq!(status(&server.exchange(named.as_bytes())), 421);
    let own = format!("Origin: http://{}\r\nSec-Fetch-Site: same-origin\r\nContent-Type: image/png\r\n", server.host());
    assert_eq!(status(&server.exchange(&server.post_bytes("", &own, b"x"))), 200);
    for headers in [
        "Origin: http://evil.example\r\n",
        "Origin: null\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
    ] {
        let headers = format!("{headers}Content-Type: image/png\r\n");
        assert_eq!(status(&server.exchange(&server.post_bytes("", &headers, b"x"))), 403, "{headers}");
    }
    for headers in ["", "Content-Type: text/plain\r\n", "Content-Type: multipart/form-data; boundary=a\r\n"] {
        assert_eq!(status(&server.exchange(&server.post_bytes("", headers, b"x"))), 415, "{headers}");
    }
    assert_eq!(server.seen.try_iter().count(), 1);
}

#[test]
fn there_are_five_addresses_and_one_way_to_use_each() {
    let server = Running::start(Limits::default());
    for path in
        ["/page.html", "/../Cargo.toml", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/api", "/page.js/", "/\\"]
    {
        assert_eq!(status(&server.get(path)), 404, "{path}");
    }
    for (method, path, allowed) in [
        ("POST", "/", "GET,HEAD"),
        ("PUT", "/page.js", "GET,HEAD"),
        ("POST", "/health", "GET,HEAD"),
        ("GET", "/api/caption", "POST"),
        ("DELETE", "/api/caption", "POST"),
        ("OPTIONS", "/api/caption", "POST"),
        ("BREW", "/api/caption", "POST"),
    ] {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n\r\n", server.host());
        let response = server.exchange(request.as_bytes());
        assert_eq!((status(&response), header(&response, "allow")), (405, Some(allowed)), "{method} {path}");
    }
    let response = server.post("?num_captions=many", b"x");
    assert_eq!(status(&response), 400);
    assert!(error(&response).contains("expected 1 to 10"));
}

#[test]
fn too_large_a_picture_is_refused_however_it_comes() {
    let server = Running::start(Limits { body_bytes: 1000, ..Limits::default() });
    assert_eq!(status(&server.post("", &[7; 1000])), 200);
    assert_eq!(status(&server.post("", &[7; 1001])), 413);
    // Declared, and not sent: the refusal does not wait for it.
    let mut stream = server.connect();
    let host = server.host();
    let head = format!("POST /api/caption HTTP/1.1\r\nHost: {host}\r\nContent-Type: image/png\r\n");
    write!(stream, "{head}Content-Length: 99999999999\r\n\r\n").unwrap();
    let mut start = [0; 12];
    stream.read_exact(&mut start).unwrap();
    assert_eq!(&start, b"HTTP/1.1 413");
    // Not declared.
    let chunk = format!("200\r\n{}\r\n", "x".repeat(512));
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n{}", chunk.repeat(100));
    assert_eq!(status(&server.exchange(chunked.as_bytes())), 413);
    assert_eq!(server.seen.try_iter().count(), 1);
}

#[test]
fn the_server_says_that_it_is_there_while_the_model_is_at_work() {
    let server = Running::start(Limits::default());
    let mut held = server.begin(b"held");
    assert_eq!(server.next_seen(), b"held");
    let response = server.get("/health");
    assert_eq!((status(&response), header(&response, "content-type")), (200, Some("application/json")));
    assert_eq!(content(&response), json!({ "status": "ok", "model": "runs/double" }));
    server.release();
    assert_eq!(status(&rest(&mut held)), 200);
}

#[test]
fn what_is_not_a_request_is_refused_in_json_with_our_headers() {
    let server = Running::start(Limits { header: Duration::from_millis(200), ..Limits::default() });
    let host = server.host();
    for (bytes, code) in [
        ("* * *\r\n\r\n".to_owned(), 400),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 400),
        (format!("GET / HTTP/1.1\r\nHost: {host}\r\nContent-Length: -1\r\n\r\n"), 400),
        (format!("GET / HTTP/1.1\r\nHost: {host}\r\nX: {}\r\n\r\n", "a".repeat(1 << 20)), 431),
        (format!("GET / HTTP/1.1\r\nHost: {host}\r\n{}\r\n", "X: y\r\n".repeat(5000)), 431),
        (format!("GET / HTTP/1.1\r\nHost: {host}\r\n"), 408),
    ] {
        let response = server.exchange(bytes.as_bytes());
        let found = (status(&response), header(&response, "content-type"), header(&response, "x-content-type-options"));
        assert_eq!(found, (code, Some("application/json"), Some("nosniff")), "{response}");
        assert!(!error(&response).is_empty() && header(&response, "connection") == Some("close"), "{response}");
    }
    for response in [server.get("/nothing"), server.get("/api/caption"), server.post("", b"")] {
        assert_eq!(header(&response, "content-type"), Some("application/json"), "{response}");
        assert!(!error(&response).is_empty());
    }
    assert_eq!(server.log.lock().unwrap().len(), 0);
}

#[test]
fn pictures_together_take_no_more_room_than_there_is() {
    let limits = Limits { body_bytes: 4096, all_bodies_bytes: 6144, ..Limits::default() };
    let server = Running::start(Limits { body: Duration::from_millis(300), ..limits });
    let mut held = server.begin(&[b"held".as_slice(), &[0; 4000]].concat());
    assert_eq!(server.next_seen().len(), 4004);
    let response = server.post("", &[1; 4000]);
    assert_eq!((status(&response), header(&response, "retry-after")), (503, Some("5")), "{response}");
    let mut small = server.begin(&[2; 2000]);
    server.release();
    assert_eq!((status(&rest(&mut held)), status(&rest(&mut small))), (200, 200));
    assert_eq!(status(&server.post("", &[1; 4000])), 200);
}

#[test]
fn client_that_sends_much_more_than_it_may_still_reads_why_it_is_refused() {
    let server = Running::start(Limits { body_bytes: 1000, ..Limits::default() });
    let response = server.post("", &vec![7; 20 << 20]);
    assert_eq!(status(&response), 413);
    assert!(error(&response).contains("more than 1000 bytes"));
}

#[test]
fn slow_client_is_sent_away() {
    let short = Duration::from_millis(200);
    let server = Running::start(Limits { header: short, body: short, ..Limits::default() });
    // Not a byte; a head that never ends, a byte at a time.
    assert_eq!(rest(&mut server.connect()), "");
    let mut dripping = server.connect();
    while dripping.write_all(b"G").is_ok() {
        thread::sleep(Duration::from_millis(20));
    }
    // A picture that never ends.
    let mut stream = server.connect();
    let host = server.host();
    write!(
        stream,
        "POST /api/caption HTTP/1.1\r\nHost: {host}\r\nContent-Type: image/png\r\nContent-Length: 9\r\n\r\nabc"
    )
    .unwrap();
    let response = rest(&mut stream);
    assert_eq!(status(&response), 408);
    assert!(error(&response).contains("within 0.2 seconds"));
    assert_eq!(server.seen.try_iter().count(), 0);
}

#[test]
fn caption_that_takes_too_long_is_given_up() {
    let server = Running::start(Limits { answer: Duration::from_millis(200), ..Limits::default() });
    let response = rest(&mut server.begin(b"held"));
    assert_eq!((status(&response), header(&response, "retry-after")), (503, Some("5")));
    assert!(error(&response).contains("no caption within 0.2 seconds"));
    server.release();
    assert_eq!(server.next_seen(), b"held");
    assert_eq!(status(&server.post("", b"picture")), 200);
}

/// Waits until one of these connections has an answer, takes it out and gives the answer.
fn first_answer(streams: &mut Vec<TcpStream>) -> String {
    loop {
        let answered = streams.iter().position(|stream| {
            stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
            stream.peek(&mut [0]).is_ok()
        });
        if let Some(index) = answered {
            let mut stream = streams.remove(index);
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            return rest(&mut stream);
        }
    }
}

#[test]
fn one_too_many_is_reported_to_come_back() {
    let server = Running::start(Limits { num_waiting: 2, ..Limits::default() });
    let mut streams: Vec<TcpStream> = (0..4).map(|_| server.begin(b"held")).collect();
    let response = first_answer(&mut streams);
    assert_eq!((status(&response), header(&response, "retry-after")), (503, Some("5")));
    assert!(error(&response).contains("the model is busy"));
    for _ in 0..3 {
        server.release();
    }
    for _ in 0..3 {
        assert_eq!(status(&first_answer(&mut streams)), 200);
    }
}

#[test]
fn client_that_goes_away_gives_up_its_place() {
    let server = Running::start(Limits { num_waiting: 1, ..Limits::default() });
    let mut held = server.begin(b"held");
    assert_eq!(server.next_seen(), b"held");
    // One of the two has the place when the other is sent away.
    let mut leaving = vec![server.begin(b"leaves"), server.begin(b"leaves")];
    assert_eq!(status(&first_answer(&mut leaving)), 503);
    drop(leaving);
    let mut stays = loop {
        let stream = server.begin(b"stays");
        stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        // No answer: it waits in the place that was given up.
        if stream.peek(&mut [0]).is_err() {
            break stream;
        }
    };
    server.release();
    stays.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!((status(&rest(&mut held)), status(&rest(&mut stays))), (200, 200));
    let seen: Vec<Vec<u8>> = server.seen.try_iter().map(|(image, _)| image).collect();
    assert_eq!(seen, [b"stays"], "the picture of a client that had left was described");
}

#[test]
fn connections_beyond_the_limit_wait_until_others_end() {
    let server = Running::start(Limits { num_connections: 2, ..Limits::default() });
    let idle = [server.connect(), server.connect()];
    let mut third = server.connect();
    write!(third, "GET / HTTP/1.1\r\nHost: {}\r\n\r\n", server.host()).unwrap();
    third.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!(third.read(&mut [0]).is_err(), "it was answered although there were two before it");
    drop(idle);
    third.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(status(&rest(&mut third)), 200);
}

#[test]
fn stopped_server_finishes_the_answer_that_is_under_way_and_no_other() {
    let mut server = Running::start(Limits { finish: PATIENCE, ..Limits::default() });
    let mut idle = server.connect();
    let mut held = server.begin(b"held");
    assert_eq!(server.next_seen(), b"held");
    let mut waiting = server.begin(b"waiting");
    let mut sending = server.connect();
    let host = server.host();
    write!(
        sending,
        "POST /api/caption HTTP/1.1\r\nHost: {host}\r\nContent-Type: image/png\r\nContent-Length: 9\r\n\r\nabc"
    )
    .unwrap();
    server.stop.store(true, Ordering::Relaxed);
    let response = rest(&mut waiting);
    // Who had no place yet when the server was stopped gets no answer.
    if !response.is_empty() {
        assert_eq!(status(&response), 503);
        assert!(error(&response).contains("the server is stopping"));
    }
    assert_eq!((rest(&mut idle), rest(&mut sending)), (String::new(), String::new()));
    assert!(TcpStream::connect(server.address).is_err());
    server.release();
    assert_eq!(status(&rest(&mut held)), 200);
    assert!(server.stop().is_ok());
    assert_eq!(server.log.lock().unwrap().len(), 0);
}

#[test]
fn stopped_server_does_not_wait_for_ever() {
    let mut server = Running::start(Limits { finish: Duration::from_millis(100), ..Limits::default() });
    let mut held = server.begin(b"held");
    assert_eq!(server.next_seen(), b"held");
    assert!(server.stop().is_ok());
    assert_eq!(rest(&mut held), "");
    assert_eq!(*server.log.lock().unwrap(), ["the model was still processing a picture when the server stopped"]);
}

#[test]
fn stopped_server_waits_for_work_whose_client_has_left() {
    let mut server = Running::start(Limits { finish: PATIENCE, ..Limits::default() });
    let leaving = server.begin(b"held");
    assert_eq!(server.next_seen(), b"held");
    drop(leaving);
    server.stop.store(true, Ordering::Relaxed);
    server.release();
    assert!(server.stop().is_ok());
    assert_eq!(server.log.lock().unwrap().len(), 0);
}

#[test]
fn garbage_is_refused_and_the_server_continues() {
    let short = Duration::from_millis(300);
    let limits = Limits { header: short, body: short, linger: short, num_connections: 8, ..Limits::default() };
    let server = Running::start(limits);
    let host = server.host();
    let post = format!("POST /api/caption HTTP/1.1\r\nHost: {host}\r\nContent-Type: image/png\r\n");
    let mut garbage: Vec<Vec<u8>> = vec![
        b"\r\n\r\n".to_vec(),
        vec![0; 300],
        b"GET /\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"* * *\r\n\r\n".to_vec(),
        format!("GET /{} HTTP/1.1\r\nHost: {host}\r\n\r\n", "a".repeat(1 << 20)).into_bytes(),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nX: {}\r\n\r\n", "a".repeat(1 << 20)).into_bytes(),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\n{}\r\n", "X: y\r\n".repeat(5000)).into_bytes(),
        format!("{post}Content-Length: -1\r\n\r\n").into_bytes(),
        format!("{post}Content-Length: 18446744073709551617\r\n\r\n").into_bytes(),
        format!("{post}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab").into_bytes(),
        format!("{post}Transfer-Encoding: chunked\r\n\r\nzz\r\n").into_bytes(),
        format!("{post}Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n").into_bytes(),
        format!("{post}Transfer-Encoding: gzip\r\n\r\nab").into_bytes(),
    ];
    let whole = server.post_bytes("?attention=true", "Content-Type: image/png\r\n", b"picture");
    garbage.extend((0..whole.len() - 1).step_by(7).map(|length| whole[..length].to_vec()));
    // xorshift64: the same garbage every time.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..200 {
        let mut bytes = whole.clone();
        for _ in 0..3 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let at = state as usize % bytes.len();
            bytes[at] = (state >> 32) as u8;
        }
        garbage.push(bytes);
    }
    for bytes in &garbage {
        let mut stream = server.connect();
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let response = rest(&mut stream);
        if !response.is_empty() {
            let status = status(&response);
            assert!(status == 200 || (400..500).contains(&status), "{:?}: {response}", String::from_utf8_lossy(bytes));
        }
    }
    assert_eq!(status(&server.post("", b"picture")), 200);
    assert_eq!(server.log.lock().unwrap().len(), 0);
}
