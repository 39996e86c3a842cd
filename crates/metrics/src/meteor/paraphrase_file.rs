//! Reads a gzipped table of paraphrases: three lines for each pair, which are a probability, a phrase and its
//! paraphrase.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use flate2::read::MultiGzDecoder;

use super::paraphrases::{Paraphrases, TableBuilder};

/// Bytes that are unpacked at a time, and those of the longest line.
const CHUNK_BYTES: usize = 1 << 20;
/// Chunks that may wait to be parsed.
const NUM_CHUNKS_AHEAD: usize = 4;
/// Largest table, unpacked: seven times the largest in use. What is numbered here fits 32 bits then.
const TABLE_BYTES: u64 = 2 << 30;

/// Why a table cannot be read.
#[derive(Debug)]
pub(super) enum ParaphraseFault {
    /// The file cannot be read, or the compression is damaged.
    Io(io::Error),
    /// What is wrong, with the number of the line.
    Content(String),
}

/// The table that `reader` contains.
///
/// # Errors
/// Errors of reading, damage, lines that are not such triples.
pub(super) fn read(reader: impl Read + Send) -> Result<Paraphrases, ParaphraseFault> {
    thread::scope(|scope| {
        let (sender, receiver) = sync_channel(NUM_CHUNKS_AHEAD);
        // Unpacking takes as long as parsing: side by side they take half the time.
        let unpack = move || unpack(MultiGzDecoder::new(reader), TABLE_BYTES, &sender);
        let unpacking = thread::Builder::new().spawn_scoped(scope, unpack).map_err(ParaphraseFault::Io)?;
        let mut parser = Parser::default();
        let parsed = parser.parse_all(receiver);
        // A parser that stopped has dropped the receiver, which ends the other side too.
        let unpacked = unpacking.join().expect("unpacking does not panic");
        parsed?;
        unpacked.map_err(ParaphraseFault::Io)?;
        parser.finish()
    })
}

/// Sends whole lines until the end, an error, or until the receiver is gone.
fn unpack(mut reader: impl Read, limit: u64, sender: &SyncSender<Vec<u8>>) -> io::Result<()> {
    let mut rest = Vec::new();
    let mut num_bytes = 0;
    loop {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES + rest.len());
        chunk.append(&mut rest);
        let read = (&mut reader).take(CHUNK_BYTES as u64).read_to_end(&mut chunk)?;
        num_bytes += read as u64;
        if num_bytes > limit {
            return Err(io::Error::other(format!("expected at most {limit} bytes unpacked, found more")));
        }
        let is_end = read == 0;
        if !is_end {
            let end = chunk.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
            if chunk.len() - end > CHUNK_BYTES {
                return Err(io::Error::other(format!(
                    "expected lines of at most {CHUNK_BYTES} bytes, found a longer one"
                )));
            }
            rest.extend_from_slice(&chunk[end..]);
            chunk.truncate(end);
        }
        if (!chunk.is_empty() && sender.send(chunk).is_err()) || is_end {
            return Ok(());
        }
    }
}

#[derive(Default)]
struct Parser {
    builder: TableBuilder,
    num_lines: usize,
}

impl Parser {
    fn parse_all(&mut self, chunks: Receiver<Vec<u8>>) -> Result<(), ParaphraseFault> {
        for chunk in chunks {
            let lines = chunk.strip_suffix(b"\n").unwrap_or(&chunk);
            for line in lines.split(|&byte| byte == b'\n') {
                self.num_lines += 1;
                self.parse(line)?;
            }
        }
        Ok(())
    }

    fn parse(&mut self, line: &[u8]) -> Result<(), ParaphraseFault> {
        let parsed = match self.num_lines % 3 {
            1 if line.first().is_some_and(u8::is_ascii_digit) => Ok(()),
            1 => Err("a probability"),
            2 => self.builder.phrase(line),
            _ => self.builder.paraphrase(line),
        };
        parsed.map_err(|expected| {
            let found: String = String::from_utf8_lossy(line).chars().take(40).collect();
            ParaphraseFault::Content(format!("line {}: expected {expected}, found {found:?}", self.num_lines))
        })
    }

    fn finish(self) -> Result<Paraphrases, ParaphraseFault> {
        if self.num_lines == 0 || !self.num_lines.is_multiple_of(3) {
            let message = format!("expected three lines for each paraphrase, found {} lines", self.num_lines);
            return Err(ParaphraseFault::Content(message));
        }
        Ok(self.builder.finish())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    fn num_pairs(table: &Paraphrases, from: &str, to: &str) -> usize {
        let mut num_pairs = 0;
        let (from, to) = (table.view(from.split(' ')), table.view(to.split(' ')));
        table.for_each_pair(&from, &to, |_, _| num_pairs += 1);
        num_pairs
    }

    #[test]
    fn tables_of_many_chunks_are_read_whole() {
        let pairs = 40_000;
        let text: String = (0..pairs).map(|n| format!("0.{n}\nthe phrase {n}\nparaphrase number {n}\n")).collect();
        assert!(text.len() > CHUNK_BYTES);
        // The end of the last line may be missing.
        let table = read(gzip(text.trim_end()).as_slice()).unwrap();
        for number in [0, 1, pairs / 3, pairs / 2, pairs - 1] {
            let (from, to) = (format!("say the phrase {number}"), format!("paraphrase number {number}"));
            assert_eq!(num_pairs(&table, &from, &to), 1, "{number}");
        }
        assert_eq!(num_pairs(&table, "the phrase 5", "paraphrase number 6"), 0);
    }

    #[test]
    fn members_of_a_file_are_read_one_after_the_other() {
        let mut file = gzip("0.5\na\nb\n");
        file.extend(gzip("1\nc\nd\n"));
        let table = read(file.as_slice()).unwrap();
        assert_eq!((num_pairs(&table, "a", "b"), num_pairs(&table, "c", "d")), (1, 1));
    }

    #[test]
    fn long_lines_are_read_and_endless_ones_refused() {
        let word = "w".repeat(CHUNK_BYTES - 10);
        let table = read(gzip(&format!("0.5\n{word} end\nb\n")).as_slice()).unwrap();
        assert_eq!(num_pairs(&table, &format!("{word} end"), "b"), 1);
        let endless = "w".repeat(3 * CHUNK_BYTES);
        let Err(ParaphraseFault::Io(error)) = read(gzip(&endless).as_slice()) else { panic!("it is read") };
        assert_eq!(error.to_string(), "expected lines of at most 1048576 bytes, found a longer one");
    }

    #[test]
    fn a_table_beyond_the_limit_is_refused() {
        let (sender, receiver) = sync_channel(NUM_CHUNKS_AHEAD);
        let text = b"0.5\na\nb\n";
        unpack(text.as_slice(), text.len() as u64, &sender).unwrap();
        let error = unpack(text.as_slice(), text.len() as u64 - 1, &sender).unwrap_err();
        assert_eq!(error.to_string(), "expected at most 7 bytes unpacked, found more");
        drop(sender);
        assert_eq!(receiver.iter().collect::<Vec<_>>(), [text]);
    }

    #[test]
    fn lines_that_are_not_triples_are_named() {
        let message = |text: &str| match read(gzip(text).as_slice()) {
            Err(ParaphraseFault::Content(message)) => message,
            other => panic!("{other:?}"),
        };
        assert_eq!(message("0.5\na\nb\nc\nd\ne\n"), "line 4: expected a probability, found \"c\"");
        assert_eq!(message("0.5\n\nb\n"), "line 2: expected a phrase, found \"\"");
        assert_eq!(message("0.5\na\n \n"), "line 3: expected a paraphrase, found \" \"");
        assert_eq!(message("0.5\na\nb\n0.5\na\n"), "expected three lines for each paraphrase, found 5 lines");
        assert_eq!(
            message("1\na\nb\n1\nc\nd\n1\na\ne\n"),
            "line 8: expected all paraphrases of a phrase together, found \"a\""
        );
        assert_eq!(message(""), "expected three lines for each paraphrase, found 0 lines");
    }

    #[test]
    fn a_cut_or_damaged_file_is_an_error() {
        let text: String = (0..1000).map(|n| format!("0.5\nphrase {n}\nparaphrase {}\n", n * n)).collect();
        let whole = gzip(&text);
        assert!(read(whole.as_slice()).is_ok());
        assert!(matches!(read(&whole[..whole.len() - 20]), Err(ParaphraseFault::Io(_))));
        assert!(matches!(read(&whole[..0]), Err(ParaphraseFault::Io(_) | ParaphraseFault::Content(_))));
        assert!(matches!(read(text.as_bytes()), Err(ParaphraseFault::Io(_))));
        let mut damaged = whole;
        let last = damaged.len() - 6;
        damaged[last] ^= 1;
        assert!(matches!(read(damaged.as_slice()), Err(ParaphraseFault::Io(_))), "the checksum shows it");
    }
}
