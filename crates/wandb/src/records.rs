//! The records of a `.wandb` file, written and read as protobuf messages (`wandb/proto/wandb_internal.proto`).
//!
//! A record is a message with its number and one of many parts. Only what this program writes is read.

use crate::history::Item;
use crate::metadata::Metadata;
use crate::settings::{CLIENT_VERSION, Settings};
use base::protobuf::{Fields, Message, Value};

/// The oldest official client that reads such a file.
const OLDEST_READER: &str = "0.70.0";

const HISTORY: u32 = 2;
const SUMMARY: u32 = 3;
const CONFIG: u32 = 5;
const FILES: u32 = 6;
const STATS: u32 = 7;
const TELEMETRY: u32 = 11;
const OUTPUT: u32 = 13;
const RUN: u32 = 17;
const EXIT: u32 = 18;
const HEADER: u32 = 21;
const ENVIRONMENT: u32 = 26;

// Fields of several parts.
const KEY: u32 = 1;
const NESTED_KEY: u32 = 2;
const VALUE_JSON: u32 = 16;
const FILE_IS_MEDIA: u64 = 2;
const STANDARD_OUTPUT: u64 = 1;

#[derive(Debug)]
pub(crate) enum Part {
    Header(Message),
    Run(Message),
    Environment(Message),
    Telemetry(Message),
    Config(Vec<Item>),
    /// A row of metrics.
    History {
        step: u64,
        items: Vec<Item>,
    },
    Summary(Vec<Item>),
    /// Measurements of the machine at a moment, in seconds since 1970.
    Stats {
        time: f64,
        items: Vec<Item>,
    },
    /// A line of the console.
    Line {
        time: f64,
        text: String,
    },
    /// Files to upload, relative to `files/`.
    Files(Vec<String>),
    Exit {
        code: i32,
        seconds: u64,
    },
}

pub(crate) fn header() -> Part {
    let version = Message::new().text(1, CLIENT_VERSION).text(2, OLDEST_READER);
    Part::Header(Message::new().message(1, &version))
}

/// The record that describes the run. `first_step` is the step after the checkpoint that it resumes from.
pub(crate) fn run(
    settings: &Settings,
    id: &str,
    metadata: &Metadata,
    config: &[Item],
    started: f64,
    first_step: Option<u64>,
) -> Part {
    let run = Message::new().text(1, id).optional_text(2, settings.entity.as_deref()).text(3, &settings.project);
    let run = run.message(4, &Message::new().messages(1, config.iter().map(|item| item_message(item, Nesting::Flat))));
    let run = run.optional_text(6, settings.group.as_deref()).optional_text(7, settings.job_type.as_deref());
    let run = run.optional_text(8, settings.name.as_deref()).optional_text(9, settings.notes.as_deref());
    let run = run.texts(10, &settings.tags).text(13, &metadata.host);
    let run = match first_step {
        Some(step) => run.unsigned(14, step),
        None => run,
    };
    let run = run.message(17, &timestamp(started));
    let run = if first_step.is_some() { run.boolean(18, true) } else { run };
    let run = run.message(19, &telemetry_message());
    Part::Run(run)
}

pub(crate) fn environment(metadata: &Metadata, writer_id: &str, started: f64) -> Part {
    let message = Message::new().text(1, &metadata.os).message(3, &timestamp(started)).texts(5, &metadata.args);
    let message = message.text(6, &metadata.program);
    let message = message.text(12, &metadata.host).optional_text(14, metadata.executable.as_deref());
    let message = message.unsigned(16, metadata.cpu_cores).unsigned(17, metadata.cpu_threads);
    let message = match metadata.gpus.first() {
        Some(gpu) => message.text(18, &gpu.name).unsigned(19, metadata.gpus.len() as u64),
        None => message,
    };
    let message = message.message(21, &Message::new().unsigned(1, metadata.memory_bytes));
    let gpus = metadata.gpus.iter().map(|gpu| Message::new().text(1, &gpu.name).unsigned(2, gpu.memory_bytes));
    Part::Environment(message.messages(24, gpus).text(199, writer_id))
}

pub(crate) fn telemetry() -> Part {
    Part::Telemetry(telemetry_message())
}

fn telemetry_message() -> Message {
    Message::new().text(5, CLIENT_VERSION).text(12, CLIENT_VERSION).text(13, &crate::metadata::platform())
}

fn timestamp(seconds: f64) -> Message {
    let nanos = ((seconds - seconds.floor()) * 1e9) as u64;
    Message::new().signed(1, seconds.floor() as i64).unsigned(2, nanos.min(999_999_999))
}

/// How the keys of an item are written: those of the history always as a path, as in the official client.
#[derive(Clone, Copy)]
enum Nesting {
    Flat,
    Path,
}

fn item_message(item: &Item, nesting: Nesting) -> Message {
    let message = match (nesting, &item.path[..]) {
        (Nesting::Flat, [key]) => Message::new().text(KEY, key),
        (_, path) => Message::new().texts(NESTED_KEY, path),
    };
    message.text(VALUE_JSON, &item.json)
}

impl Part {
    pub(crate) fn encode(&self, number: u64) -> Vec<u8> {
        let (field, message) = match self {
            Self::Header(message) => (HEADER, message.clone()),
            Self::Run(message) => (RUN, message.clone()),
            Self::Environment(message) => (ENVIRONMENT, message.clone()),
            Self::Telemetry(message) => (TELEMETRY, message.clone()),
            Self::Config(items) => (CONFIG, updates(items, Nesting::Flat)),
            Self::Summary(items) => (SUMMARY, updates(items, Nesting::Path)),
            Self::History { step, items } => {
                (HISTORY, updates(items, Nesting::Path).message(2, &Message::new().unsigned(1, *step)))
            }
            Self::Stats { time, items } => {
                let stats = Message::new().message(2, &timestamp(*time));
                (STATS, stats.messages(3, items.iter().map(|item| item_message(item, Nesting::Flat))))
            }
            Self::Line { time, text } => {
                let line = Message::new().unsigned(1, STANDARD_OUTPUT).message(2, &timestamp(*time));
                (OUTPUT, line.text(3, &format!("{text}\n")))
            }
            Self::Files(paths) => (
                FILES,
                Message::new().messages(1, paths.iter().map(|p| Message::new().text(1, p).unsigned(3, FILE_IS_MEDIA))),
            ),
            Self::Exit { code, seconds } => (EXIT, Message::new().signed(1, i64::from(*code)).unsigned(2, *seconds)),
        };
        Message::new().unsigned(1, number).message(field, &message).into_bytes()
    }

    /// Reads a record; `None` for one of another kind.
    pub(crate) fn decode(record: &[u8]) -> Option<Self> {
        Fields::new(record).find_map(|(field, part)| match field {
            HISTORY => {
                let items = items_of(part, 1);
                let step = part.fields().filter(|(number, _)| *number == 2).find_map(|(_, step)| {
                    step.fields().find(|(number, _)| *number == 1).map(|(_, step)| step.signed())
                });
                Some(Self::History { step: u64::try_from(step.unwrap_or(0)).unwrap_or(0), items })
            }
            SUMMARY => Some(Self::Summary(items_of(part, 1))),
            CONFIG => Some(Self::Config(items_of(part, 1))),
            STATS => Some(Self::Stats { time: time_of(part, 2), items: items_of(part, 3) }),
            OUTPUT => {
                let text = part.fields().find(|(number, _)| *number == 3).map(|(_, line)| line.text());
                let text = text.unwrap_or_default();
                let text = text.strip_suffix('\n').unwrap_or(&text).to_owned();
                Some(Self::Line { time: time_of(part, 2), text })
            }
            FILES => {
                let files = part.fields().filter(|(number, _)| *number == 1);
                let path =
                    |file: Value<'_>| file.fields().find(|(number, _)| *number == 1).map(|(_, path)| path.text());
                Some(Self::Files(files.filter_map(|(_, file)| path(file)).collect()))
            }
            EXIT => {
                let number =
                    |wanted| part.fields().find(|(number, _)| *number == wanted).map_or(0, |(_, v)| v.signed());
                Some(Self::Exit { code: number(1) as i32, seconds: u64::try_from(number(2)).unwrap_or(0) })
            }
            _ => None,
        })
    }
}

/// When the run started, from the record that describes it, in seconds since 1970.
pub(crate) fn started(record: &[u8]) -> Option<f64> {
    Fields::new(record).find(|(field, _)| *field == RUN).map(|(_, run)| time_of(run, 17))
}

fn updates(items: &[Item], nesting: Nesting) -> Message {
    Message::new().messages(1, items.iter().map(|item| item_message(item, nesting)))
}

fn items_of(part: Value<'_>, field: u32) -> Vec<Item> {
    let items = part.fields().filter(|(number, _)| *number == field);
    items
        .map(|(_, item)| {
            let (mut path, mut json) = (Vec::new(), String::new());
            for (number, value) in item.fields() {
                match number {
                    KEY | NESTED_KEY => path.push(value.text()),
                    VALUE_JSON => json = value.text(),
                    _ => {}
                }
            }
            Item { path, json }
        })
        .filter(|item| !item.path.is_empty() && !item.json.is_empty())
        .collect()
}

fn time_of(part: Value<'_>, field: u32) -> f64 {
    let time = part.fields().find(|(number, _)| *number == field);
    let number = |wanted| {
        let found = time.and_then(|(_, time)| time.fields().find(|(number, _)| *number == wanted));
        found.map_or(0, |(_, value)| value.signed())
    };
    number(1) as f64 + number(2) as f64 * 1e-9
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::history::items;

    fn round_trip(part: &Part) -> Part {
        Part::decode(&part.encode(7)).unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        let row = json!({"_step": 3, "val": {"loss": 1.5, "caption": "ein Hündchen"}});
        let row = items(row.as_object().unwrap());
        let parts = [
            Part::History { step: 3, items: row.clone() },
            Part::Summary(row.clone()),
            Part::Config(vec![Item::new("lr", &json!(0.1))]),
            Part::Stats { time: 1.5e9, items: vec![Item::new("cpu", &json!(7.5))] },
            Part::Line { time: 1.5e9 + 0.25, text: "epoch 1\tdone".to_owned() },
            Part::Files(vec!["media/images/a.png".to_owned(), "b".to_owned()]),
            Part::Exit { code: -3, seconds: 12 },
        ];
        for part in parts {
            assert_eq!(format!("{part:?}"), format!("{:?}", round_trip(&part)));
        }
    }

    #[test]
    fn foreign_bytes_are_not_a_record_and_do_no_harm() {
        for bytes in [&[][..], &[0xff; 40], b"\x08\x01", b"\x12\x02\x0a\x00", b"\xaa\x01\x00"] {
            let part = Part::decode(bytes);
            assert!(part.is_none() || matches!(part, Some(Part::History { step: 0, .. })), "{bytes:?}");
        }
        assert_eq!(started(&header().encode(1)), None);
    }
}
