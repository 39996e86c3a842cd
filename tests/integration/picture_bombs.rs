//! Pictures whose files are small and whose pixels take more memory than they may, through the program.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::ZlibEncoder;

use crate::commands::{picture, trained};
use crate::support::{binary, last_checkpoint, stderr};

/// As many pixels as a picture may have, and nearly a square.
const SIDE: u32 = 13_377;
const MEGABYTE: u64 = 1 << 20;
/// The address space of a program that may take a quarter of it for pictures.
const ADDRESS_SPACE: &str = "2048000";

/// A PNG of zeros, whose data may be left out.
fn png(width: u32, height: u32, [depth, kind, bytes]: [u8; 3], is_whole: bool) -> Vec<u8> {
    let chunk = |name: &[u8; 4], data: &[u8]| {
        let named = [&name[..], data].concat();
        [&(data.len() as u32).to_be_bytes()[..], &named, &crc32fast::hash(&named).to_be_bytes()].concat()
    };
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[depth, kind, 0, 0, 0]].concat();
    let mut data = ZlibEncoder::new(Vec::new(), Compression::fast());
    let row = vec![0; 1 + width as usize * usize::from(bytes)];
    (0..if is_whole { height } else { 0 }).for_each(|_| data.write_all(&row).unwrap());
    let (header, data) = (chunk(b"IHDR", &header), chunk(b"IDAT", &data.finish().unwrap()));
    [b"\x89PNG\r\n\x1a\n".to_vec(), header, data, chunk(b"IEND", b"")].concat()
}

/// A JPEG whose frame header says this size.
fn jpeg(is_progressive: bool) -> Vec<u8> {
    let mut bytes = fs::read(picture()).unwrap();
    let frame = bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    bytes[frame + 1] = if is_progressive { 0xc2 } else { 0xc0 };
    let side = (SIDE as u16).to_be_bytes();
    bytes[frame + 5..frame + 9].copy_from_slice(&[side, side].concat());
    bytes
}

/// An animated GIF of frames of one pixel on a large canvas.
fn gif(side: u16) -> Vec<u8> {
    let side = side.to_le_bytes();
    let head = [&b"GIF89a"[..], &side, &side, b"\x80\0\0\0\0\0\xff\xff\xff"].concat();
    let frame = b"\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0";
    [&head[..], frame, frame, b"\x3b"].concat()
}

/// A lossless WebP of one colour.
fn webp() -> Vec<u8> {
    // Signature, sides, no alpha, version, then no transform, no cache, no groups and five codes of one symbol each.
    let mut bits = 0x2f | u128::from(SIDE - 1) << 8 | u128::from(SIDE - 1) << 22;
    (0..5).for_each(|code| bits |= 1 << (43 + 4 * code));
    let data = &bits.to_le_bytes()[..10];
    [&b"RIFF"[..], &22u32.to_le_bytes(), b"WEBPVP8L", &10u32.to_le_bytes(), data].concat()
}

/// A TIFF of 16-bit RGBA without its data.
fn tiff() -> Vec<u8> {
    let entries: [(u16, u16, u32, u32); 10] = [
        (256, 4, 1, SIDE),
        (257, 4, 1, SIDE),
        (258, 3, 4, 8 + 2 + 120 + 4),
        (259, 3, 1, 8),
        (262, 3, 1, 2),
        (273, 4, 1, 8),
        (277, 3, 1, 4),
        (278, 4, 1, SIDE),
        (279, 4, 1, 4),
        (338, 3, 1, 2),
    ];
    let mut bytes = [&b"II*\0\x08\0\0\0"[..], &(entries.len() as u16).to_le_bytes()].concat();
    for (tag, kind, count, value) in entries {
        bytes
            .extend([&tag.to_le_bytes()[..], &kind.to_le_bytes(), &count.to_le_bytes(), &value.to_le_bytes()].concat());
    }
    [&bytes[..], &[0; 4], &[16, 0].repeat(4)].concat()
}

/// A BMP of 24 bits without its data.
fn bmp() -> Vec<u8> {
    let side = SIDE.to_le_bytes();
    let file = [&b"BM"[..], &54u32.to_le_bytes(), &[0; 4], &54u32.to_le_bytes()].concat();
    [&file[..], &40u32.to_le_bytes(), &side, &side, &[1, 0, 24, 0], &[0; 24]].concat()
}

/// Bombs by the names of their files, and what is said of each.
fn bombs() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    const PIXELS: &str = "decoding its 13377x13377 pixels takes";
    vec![
        ("a.png", png(SIDE, SIDE, [16, 6, 8], false), PIXELS),
        (
            "b.png",
            png(178_956_970, 1, [8, 2, 3], false),
            "it declares 178956970x1 pixels, more than 65535 along a side",
        ),
        ("c.jpg", jpeg(false), PIXELS),
        ("d.jpg", jpeg(true), PIXELS),
        ("e.gif", gif(65_535), "it declares 65535x65535 pixels, more than 178956970"),
        ("f.gif", gif(SIDE as u16), PIXELS),
        ("g.webp", webp(), PIXELS),
        ("h.tiff", tiff(), PIXELS),
        ("i.bmp", bmp(), PIXELS),
    ]
}

/// The program with these arguments in a small address space.
fn in_little_memory(arguments: &[&str]) -> Output {
    let mut command = Command::new("bash");
    command.args([
        "-c",
        &format!("ulimit -v {ADDRESS_SPACE}; exec \"$@\""),
        "bash",
        env!("CARGO_BIN_EXE_caption-train"),
    ]);
    command.env("RAYON_NUM_THREADS", "2").args(arguments).output().unwrap()
}

fn put_bombs(folder: &Path) {
    bombs().into_iter().for_each(|(name, bytes, _)| fs::write(folder.join(name), bytes).unwrap());
    fs::copy(picture(), folder.join("z.jpg")).unwrap();
}

#[test]
#[cfg(target_os = "linux")]
fn a_preparation_leaves_bombs_of_every_format_out_by_name() {
    let (source, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    put_bombs(source.path());
    let lines: String = bombs().iter().map(|(name, ..)| format!("{name},A picture.\n")).collect();
    fs::write(source.path().join("captions.csv"), format!("image,caption\nz.jpg,A picture.\n{lines}")).unwrap();
    let folder = output.path().join("out");
    let (from, to) = (source.path().to_str().unwrap(), folder.to_str().unwrap());
    let result = in_little_memory(&["prepare-data", "--source", from, "--output", to]);
    assert!(result.status.success(), "{}", stderr(&result));
    let report = fs::read_to_string(folder.join("preparation.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let rejects = report["rejects"].as_array().unwrap();
    for (name, _, said) in bombs() {
        let reject =
            rejects.iter().find(|reject| reject["what"] == name).unwrap_or_else(|| panic!("{name}: {rejects:?}"));
        assert!(reject["reason"].as_str().unwrap().contains(said), "{name}: {reject}");
    }
    assert!(folder.join("images/z.jpg").is_file());
}

#[test]
#[cfg(target_os = "linux")]
fn bombs_of_every_format_are_named_when_they_are_captioned_and_the_rest_is() {
    let folder = tempfile::tempdir().unwrap();
    put_bombs(folder.path());
    let checkpoint = last_checkpoint(&trained().join("run"));
    let result =
        in_little_memory(&["caption", "--checkpoint", checkpoint.to_str().unwrap(), folder.path().to_str().unwrap()]);
    let text = stderr(&result);
    assert_eq!(result.status.code(), Some(1), "{text}");
    for (name, _, said) in bombs() {
        let told = text.split("error: ").find(|error| error.contains(name)).unwrap_or_else(|| panic!("{name}: {text}"));
        assert!(told.contains(said), "{name}: {told}");
    }
    assert!(text.contains("9 of 10 images could not be captioned"), "{text}");
    assert!(String::from_utf8(result.stdout).unwrap().contains("z.jpg\t"), "{text}");
}

/// The program as a server, ended when it is dropped.
struct Served {
    process: Child,
    address: String,
    errors: BufReader<std::process::ChildStderr>,
}

impl Served {
    fn start(mut command: Command) -> Self {
        command.arg("serve").arg("--checkpoint").arg(last_checkpoint(&trained().join("run"))).args(["--port", "0"]);
        let mut process = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut errors = BufReader::new(process.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("http://") {
            line.clear();
            assert!(errors.read_line(&mut line).unwrap() > 0, "it ended before it served");
        }
        let address = line.split("http://").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
        Self { process, address, errors }
    }

    fn send(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let host = &self.address;
        let length = bytes.len();
        let head = format!("POST /api/caption HTTP/1.1\r\nHost: {host}\r\nContent-Type: image/png\r\n");
        stream.write_all(format!("{head}Content-Length: {length}\r\n\r\n").as_bytes()).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[cfg(target_os = "linux")]
    fn memory(&self, key: &str) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_server_refuses_bombs_takes_a_large_photograph_and_gives_its_memory_back() {
    let server = Served::start(binary());
    let before = server.memory("VmRSS:");
    for (name, bytes, said) in bombs() {
        let answer = server.send(&bytes);
        assert!(answer.starts_with("HTTP/1.1 422") && answer.contains(said), "{name}: {answer}");
    }
    assert!(server.memory("VmHWM:") < before + 100 * MEGABYTE, "a refusal takes no memory");
    let photograph = png(12_000, 9000, [8, 2, 3], true);
    std::thread::scope(|scope| {
        let answers = [(); 3].map(|()| scope.spawn(|| server.send(&photograph)));
        for answer in answers {
            let answer = answer.join().unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
    });
    let (peak, after) = (server.memory("VmHWM:"), server.memory("VmRSS:"));
    assert!(peak > 300 * MEGABYTE && peak < 600 * MEGABYTE, "{peak}");
    assert!(after < before + 100 * MEGABYTE, "{before} before, {after} after");
    assert!(server.send(&fs::read(picture()).unwrap()).starts_with("HTTP/1.1 200"));
}

#[test]
#[cfg(target_os = "linux")]
fn a_server_without_file_handles_says_so_once_and_continues() {
    let mut command = Command::new("bash");
    command.args(["-c", "ulimit -n 18; exec \"$@\"", "bash", env!("CARGO_BIN_EXE_caption-train")]);
    let mut server = Served::start(command);
    let idle: Vec<TcpStream> = (0..16).map(|_| TcpStream::connect(&server.address).unwrap()).collect();
    let mut line = String::new();
    server.errors.read_line(&mut line).unwrap();
    assert!(line.contains("cannot accept connections") && line.contains("ulimit -n"), "{line}");
    // It pauses between its attempts.
    let ticks = |server: &Served| {
        let text = fs::read_to_string(format!("/proc/{}/stat", server.process.id())).unwrap();
        text.split(' ').skip(13).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum::<u64>()
    };
    let (start, used) = (Instant::now(), ticks(&server));
    std::thread::sleep(Duration::from_secs(1));
    let most = start.elapsed().as_millis() as u64 / 10 / 2;
    assert!(ticks(&server) - used < most, "it is busy");
    drop(idle);
    assert!(server.send(&fs::read(picture()).unwrap()).starts_with("HTTP/1.1 200"));
    server.process.kill().unwrap();
    let mut rest = String::new();
    server.errors.read_to_string(&mut rest).unwrap();
    assert!(!rest.contains("cannot accept connections"), "{rest}");
}
