//! How the processes find each other: process 0 listens, and MPI carries its addresses and two secrets to the others.

use std::hash::{BuildHasher as _, RandomState};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::Watch;
use super::message::Peer;
use crate::system;

/// How long the others try to reach process 0.
const CONNECTING: Duration = Duration::from_secs(10);
/// Process 0 waits a little longer, so that it does not close on one that has just come.
const ACCEPTING: Duration = Duration::from_secs(12);
/// How long one address is tried: those of networks between containers may lead nowhere.
const ONE_ADDRESS: Duration = Duration::from_secs(2);
/// Connections of strangers that are looked at at a time.
const MAX_STRANGERS: usize = 64;

/// 128 bits that a stranger cannot guess.
type Secret = [u8; 16];

/// What the others need to know to reach process 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Invitation {
    /// What a process shows to process 0, followed by its rank.
    question: Secret,
    /// What process 0 answers: another program may listen at the same address of another network.
    answer: Secret,
    addresses: Vec<SocketAddr>,
}

impl Invitation {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let addresses: Vec<String> = self.addresses.iter().map(SocketAddr::to_string).collect();
        [self.question.as_slice(), &self.answer, addresses.join("\n").as_bytes()].concat()
    }

    /// What [`Invitation::encode`] gave; nothing if there is no invitation.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (question, rest) = bytes.split_first_chunk()?;
        let (answer, rest) = rest.split_first_chunk()?;
        let addresses = String::from_utf8_lossy(rest).lines().filter_map(|line| line.parse().ok()).collect();
        Some(Self { question: *question, answer: *answer, addresses })
    }

    /// Connects a process other than 0 and starts its watch.
    ///
    /// # Errors
    /// Process 0 cannot be reached.
    pub(crate) fn accept(&self, rank: usize, hosts: &[String], timeout: Duration) -> Result<Watch> {
        let until = Instant::now() + CONNECTING;
        let mut last_error = None;
        loop {
            for address in &self.addresses {
                match self.connect(address, rank) {
                    Ok(stream) => return Watch::start(rank, hosts, vec![Peer::new(0, stream)?], timeout),
                    Err(error) => last_error = Some(error.context(format!("process 0 at {address}"))),
                }
            }
            if Instant::now() >= until {
                return Err(last_error.unwrap_or_else(|| anyhow::anyhow!("process 0 has no address")));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn connect(&self, address: &SocketAddr, rank: usize) -> Result<TcpStream> {
        let mut stream = TcpStream::connect_timeout(address, ONE_ADDRESS)?;
        stream.set_read_timeout(Some(ONE_ADDRESS))?;
        stream.write_all(&[self.question.as_slice(), &(rank as u32).to_le_bytes()].concat())?;
        let mut answer = Secret::default();
        stream.read_exact(&mut answer)?;
        anyhow::ensure!(answer == self.answer, "another program listens there");
        Ok(stream)
    }
}

/// Process 0, listening.
pub(crate) struct Offer {
    listener: TcpListener,
    pub(crate) invitation: Invitation,
}

impl Offer {
    /// Listens on a port of its own, which only this machine can reach if all processes are on it.
    ///
    /// # Errors
    /// No port.
    pub(crate) fn new(on_one_machine: bool) -> Result<Self> {
        let local: IpAddr = Ipv4Addr::LOCALHOST.into();
        let listener = if on_one_machine {
            TcpListener::bind((local, 0))
        } else {
            // On most systems the unspecified address of IPv6 takes IPv4 as well.
            TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).or_else(|_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)))
        };
        let listener = listener.context("cannot listen for the other processes")?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let addresses = if on_one_machine { vec![local] } else { system::addresses() };
        let addresses = addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect();
        Ok(Self { listener, invitation: Invitation { question: secret(), answer: secret(), addresses } })
    }

    /// Waits for the others and starts the watch of process 0, over those that came.
    ///
    /// # Errors
    /// No thread.
    pub(crate) fn accept(self, hosts: &[String], timeout: Duration) -> Result<Watch> {
        let until = Instant::now() + ACCEPTING;
        let mut peers: Vec<Peer> = Vec::new();
        let mut strangers: Vec<(TcpStream, Vec<u8>)> = Vec::new();
        while peers.len() + 1 < hosts.len() && Instant::now() < until {
            while let Ok((stream, _)) = self.listener.accept() {
                if strangers.len() < MAX_STRANGERS.max(hosts.len()) && stream.set_nonblocking(true).is_ok() {
                    strangers.push((stream, Vec::new()));
                }
            }
            for (mut stream, mut shown) in std::mem::take(&mut strangers) {
                match self.welcome(&mut stream, &mut shown, hosts.len()) {
                    Shown::Everything(rank) if peers.iter().all(|peer| peer.rank != rank) => {
                        peers.push(Peer::new(rank, stream)?);
                    }
                    Shown::Part => strangers.push((stream, shown)),
                    Shown::Everything(_) | Shown::Nonsense => {}
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Watch::start(0, hosts, peers, timeout)
    }

    /// Reads what someone shows, and answers if it is the question and a rank.
    fn welcome(&self, stream: &mut TcpStream, shown: &mut Vec<u8>, size: usize) -> Shown {
        let question = &self.invitation.question;
        let mut buffer = [0; size_of::<Secret>() + 4];
        match stream.read(&mut buffer[shown.len()..]) {
            Ok(0) => return Shown::Nonsense,
            Ok(count) => {
                let from = shown.len();
                shown.extend(&buffer[from..from + count]);
            }
            Err(error) if [ErrorKind::WouldBlock, ErrorKind::Interrupted].contains(&error.kind()) => {}
            Err(_) => return Shown::Nonsense,
        }
        match shown.split_first_chunk() {
            Some((secret, rank)) if secret == question => match rank.try_into().map(u32::from_le_bytes) {
                Ok(rank) if (1..size).contains(&(rank as usize)) => match stream.write(&self.invitation.answer) {
                    Ok(count) if count == self.invitation.answer.len() => Shown::Everything(rank as usize),
                    _ => Shown::Nonsense,
                },
                Ok(_) => Shown::Nonsense,
                Err(_) => Shown::Part,
            },
            Some(_) => Shown::Nonsense,
            None => Shown::Part,
        }
    }
}

enum Shown {
    Part,
    Everything(usize),
    Nonsense,
}

/// Takes the keys that the standard library has from the system to protect its maps: it gives random bytes in no other
/// way.
fn secret() -> Secret {
    let half = || RandomState::new().hash_one(0_u8).to_le_bytes();
    let mut secret = Secret::default();
    secret[..8].copy_from_slice(&half());
    secret[8..].copy_from_slice(&half());
    secret
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invitation_arrives_as_it_was_sent() {
        let addresses = vec!["127.0.0.1:80".parse().unwrap(), "[2001:db8::1]:9".parse().unwrap()];
        let invitation = Invitation { question: secret(), answer: secret(), addresses };
        assert_ne!(invitation.question, invitation.answer);
        assert_eq!(Invitation::decode(&invitation.encode()), Some(invitation));
        assert_eq!(Invitation::decode(&[]), None);
    }

    #[test]
    fn a_stranger_gets_no_answer() {
        let offer = Offer::new(true).unwrap();
        let address = offer.invitation.addresses[0];
        let mut invitation = offer.invitation.clone();
        invitation.question[0] ^= 1;
        let hosts = vec!["a".to_owned(), "a".to_owned()];
        let right = offer.invitation.clone();
        std::thread::scope(|scope| {
            let watch = scope.spawn(|| offer.accept(&hosts, Duration::from_secs(5)).unwrap());
            assert!(invitation.connect(&address, 1).is_err());
            assert!(right.connect(&address, 2).is_err(), "a rank that does not exist");
            assert!(right.connect(&address, 1).is_ok());
            drop(watch.join().unwrap());
        });
    }
}
