//! A connection to another process, and what is said on it.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Instant;

use super::state::Cause;

/// Bytes of a message at most; more is a stranger or an error.
const MAX_BYTES: usize = 16 << 10;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// Still here.
    Beat,
    /// Finished; the connection ends.
    Goodbye,
    /// The sender stops with an error.
    Failed(String),
    /// A process is lost.
    Lost(usize, Cause),
    /// The message before this one has arrived.
    Heard,
}

impl Message {
    fn encode(&self) -> Vec<u8> {
        let (kind, rank, text) = match self {
            Self::Beat => (0, 0, ""),
            Self::Goodbye => (1, 0, ""),
            Self::Failed(text) => (2, 0, text.as_str()),
            Self::Lost(rank, Cause::Gone) => (3, *rank, ""),
            Self::Lost(rank, Cause::Silent(seconds)) => (4, *rank, &*seconds.to_string()),
            Self::Lost(rank, Cause::Error(text)) => (5, *rank, text.as_str()),
            Self::Heard => (6, 0, ""),
        };
        let length = text.len() as u32;
        [&[kind], (rank as u32).to_le_bytes().as_slice(), length.to_le_bytes().as_slice(), text.as_bytes()].concat()
    }

    /// Takes a message from the front of what arrived; `None` if it is not there whole.
    fn take(bytes: &mut VecDeque<u8>) -> Result<Option<Self>, Broken> {
        let number = |bytes: &VecDeque<u8>, at: usize| -> Option<usize> {
            let bytes: Vec<u8> = bytes.iter().skip(at).take(4).copied().collect();
            Some(u32::from_le_bytes(bytes.try_into().ok()?) as usize)
        };
        let (Some(&kind), Some(rank), Some(length)) = (bytes.front(), number(bytes, 1), number(bytes, 5)) else {
            return Ok(None);
        };
        if length > MAX_BYTES {
            return Err(Broken);
        }
        if bytes.len() < 9 + length {
            return Ok(None);
        }
        let text: Vec<u8> = bytes.drain(..9 + length).skip(9).collect();
        let text = String::from_utf8_lossy(&text).into_owned();
        Ok(Some(match kind {
            0 => Self::Beat,
            1 => Self::Goodbye,
            2 => Self::Failed(text),
            3 => Self::Lost(rank, Cause::Gone),
            4 => Self::Lost(rank, Cause::Silent(text.parse().map_err(|_| Broken)?)),
            5 => Self::Lost(rank, Cause::Error(text)),
            6 => Self::Heard,
            _ => return Err(Broken),
        }))
    }
}

/// A connection that ended or carries nonsense.
#[derive(Debug)]
pub(super) struct Broken;

/// Another process, as far as it is connected.
pub(super) struct Peer {
    pub(super) rank: usize,
    pub(super) stream: TcpStream,
    arrived: VecDeque<u8>,
    to_send: VecDeque<u8>,
    /// When something last came.
    pub(super) heard: Instant,
    pub(super) has_said_goodbye: bool,
    /// Whether nothing more comes.
    pub(super) is_closed: bool,
}

impl Peer {
    pub(super) fn new(rank: usize, stream: TcpStream) -> std::io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Self {
            rank,
            stream,
            arrived: VecDeque::new(),
            to_send: VecDeque::new(),
            heard: Instant::now(),
            has_said_goodbye: false,
            is_closed: false,
        })
    }

    /// Sends as much as the connection takes now; [`Peer::flush`] sends the rest. An end of the connection shows when
    /// something is received.
    pub(super) fn send(&mut self, message: &Message) {
        // Beats that the other side does not read are not collected.
        if *message != Message::Beat || self.to_send.is_empty() {
            self.to_send.extend(message.encode());
        }
        self.flush();
    }

    pub(super) fn flush(&mut self) {
        while !self.to_send.is_empty() {
            match self.stream.write(self.to_send.as_slices().0) {
                Ok(count) => drop(self.to_send.drain(..count)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return self.to_send.clear(),
            }
        }
    }

    /// The next message that has arrived, if any.
    ///
    /// # Errors
    /// The connection has ended.
    pub(super) fn receive(&mut self) -> Result<Option<Message>, Broken> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(message) = Message::take(&mut self.arrived)? {
                return Ok(Some(message));
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(Broken),
                Ok(count) => {
                    self.heard = Instant::now();
                    self.arrived.extend(&buffer[..count]);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(_) => return Err(Broken),
            }
        }
    }

    /// Nothing more is sent.
    pub(super) fn end(&mut self) {
        self.flush();
        let _ = self.stream.shutdown(Shutdown::Write);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_as_they_were_sent_in_whatever_pieces() {
        let messages = [
            Message::Beat,
            Message::Lost(3, Cause::Silent(15)),
            Message::Failed("no space left on device, é".to_owned()),
            Message::Lost(70_000, Cause::Error(String::new())),
            Message::Lost(1, Cause::Gone),
            Message::Heard,
            Message::Goodbye,
        ];
        let mut bytes = VecDeque::new();
        let mut arrived = Vec::new();
        for byte in messages.iter().flat_map(Message::encode) {
            bytes.push_back(byte);
            arrived.extend(Message::take(&mut bytes).unwrap());
        }
        assert_eq!(arrived, messages);
    }

    #[test]
    fn nonsense_ends_a_connection() {
        assert!(Message::take(&mut VecDeque::from([9_u8; 9])).is_err());
        assert!(Message::take(&mut VecDeque::from([9, 0, 0, 0, 0, 0, 0, 0, 0])).is_err());
    }
}
