//! What the console shows goes to `train.log`, and to trackers that keep it too.

use std::fs::File;
use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver, Sender};

use base::clock::unix_seconds;

/// A line of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct LogLine {
    /// When it was written, in seconds since 1970.
    pub time: f64,
    /// Without its end.
    pub text: String,
}

/// Writes the log and passes its lines on.
pub struct LogLines {
    file: File,
    lines: Sender<LogLine>,
    begun: Vec<u8>,
}

impl LogLines {
    /// The lines come out at the receiver; without one they go only to the file.
    pub fn new(file: File) -> (Self, Receiver<LogLine>) {
        let (lines, receiver) = mpsc::channel();
        (Self { file, lines, begun: Vec::new() }, receiver)
    }
}

impl Write for LogLines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.begun.extend_from_slice(&bytes[..count]);
        while let Some(end) = self.begun.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.begun.drain(..=end).collect();
            let text = String::from_utf8_lossy(&line[..end]).into_owned();
            // Without a listener the file has it.
            let _ = self.lines.send(LogLine { time: unix_seconds(), text });
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_passed_on_whole_with_their_time_and_the_file_has_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.log");
        let (mut log, lines) = LogLines::new(File::create(&path).unwrap());
        let begun = unix_seconds();
        for part in ["one\ntw", "o\n", "three"] {
            log.write_all(part.as_bytes()).unwrap();
        }
        // Whoever takes them later still learns when they were written.
        let written = unix_seconds();
        let lines_so_far: Vec<LogLine> = lines.try_iter().collect();
        assert_eq!(lines_so_far.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(), ["one", "two"]);
        assert!(lines_so_far.iter().all(|line| (begun..=written).contains(&line.time)));
        drop(lines);
        log.write_all(b"\n").unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), "one\ntwo\nthree\n");
    }
}
