//! An HTTP/1.1 server for tests. The test answers each request, and may also cut the connection, send nonsense or stay
//! silent, which ready-made servers do not offer. One request per connection, one thread per connection.

#![expect(clippy::disallowed_methods, reason = "only tests use it")]

use std::collections::VecDeque;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

/// A request whose body has not been read yet, and the way to answer it. Returning without an answer cuts the
/// connection.
pub struct Request {
    pub method: String,
    /// With the query.
    pub path: String,
    headers: Vec<(String, String)>,
    stream: BufReader<TcpStream>,
}

impl Request {
    /// `None` when the client closed the connection without asking.
    fn read(stream: TcpStream) -> io::Result<Option<Self>> {
        let mut stream = BufReader::new(stream);
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let mut words = lines.first().map(String::as_str).unwrap_or_default().split(' ').map(str::to_owned);
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let headers = lines.iter().skip(1).filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Ok(Some(Self { method, path, headers, stream }))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The address that the client asked, such as `http://127.0.0.1:8000`.
    pub fn server(&self) -> String {
        format!("http://{}", self.header("host").unwrap_or_default())
    }

    /// The first byte of `Range: bytes=N-`.
    pub fn range_start(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }

    /// The first and the last byte of `Range: bytes=N-M`.
    pub fn range(&self) -> Option<(usize, usize)> {
        let (first, last) = self.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().ok()?, last.parse().ok()?))
    }

    /// Reads the body, whose length the client must have announced.
    pub fn body(&mut self) -> io::Result<Vec<u8>> {
        let length = self.header("content-length").map_or(Ok(0), str::parse).map_err(io::Error::other)?;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(body)
    }

    /// Reads only `bytes` bytes of the body.
    pub fn read_some(&mut self, bytes: usize) -> io::Result<()> {
        (&mut self.stream).take(bytes as u64).read_to_end(&mut Vec::new()).map(drop)
    }

    /// Answers with a status such as `200 OK` and headers that end in `\r\n`.
    pub fn reply(&mut self, status: &str, headers: &str, body: impl AsRef<[u8]>) -> io::Result<()> {
        let body = body.as_ref();
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n");
        self.send(head.as_bytes())?;
        self.send(body)
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }
}

/// Starts a server that lives as long as the process; gives its address, such as `http://127.0.0.1:8000`.
///
/// # Panics
/// No port is free.
pub fn serve(answer: impl Fn(&mut Request) -> io::Result<()> + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = Arc::clone(&answer);
            thread::spawn(move || {
                // A client that hangs up is part of many tests.
                if let Ok(Some(mut request)) = Request::read(stream) {
                    let _ = answer(&mut request);
                }
            });
        }
    });
    address
}

/// An address at which nothing listens: the port of a listener that was closed.
///
/// # Panics
/// No port is free.
pub fn closed_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    format!("http://{}", listener.local_addr().expect("an address"))
}

/// Faults of a server, each for requests of one kind.
#[derive(Debug)]
pub struct Faults<K, F> {
    next: VecDeque<(K, F)>,
    always: Vec<(K, F)>,
}

impl<K, F> Default for Faults<K, F> {
    fn default() -> Self {
        Self { next: VecDeque::new(), always: Vec::new() }
    }
}

impl<K: Copy, F: Copy> Faults<K, F> {
    /// Adds one fault for each of the next requests of a kind.
    pub fn next(&mut self, kind: K, faults: impl IntoIterator<Item = F>) {
        self.next.extend(faults.into_iter().map(|fault| (kind, fault)));
    }

    /// Adds a fault for all requests of a kind; those of [`Faults::next`] come first.
    pub fn always(&mut self, kind: K, fault: F) {
        self.always.push((kind, fault));
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// The fault of a request.
    pub fn take(&mut self, is_kind: impl Fn(K) -> bool) -> Option<F> {
        let next = self.next.iter().position(|(kind, _)| is_kind(*kind)).and_then(|at| self.next.remove(at));
        next.or_else(|| self.always.iter().copied().find(|(kind, _)| is_kind(*kind))).map(|(_, fault)| fault)
    }
}
