//! What a run reports about itself: its config, the program and the machine; for the record, the file and the request.

use base::clock;
use serde_json::{Map, Value, json};

use crate::settings::CLIENT_VERSION;

/// What a run reports about itself.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    /// The resolved config, an object.
    pub config: Value,
    /// The name of the program.
    pub program: String,
    pub args: Vec<String>,
    /// Path of the program.
    pub executable: Option<String>,
    /// The host name.
    pub host: String,
    /// The operating system, such as `Linux-6.18-x86_64`.
    pub os: String,
    pub cpu_cores: u64,
    pub cpu_threads: u64,
    pub memory_bytes: u64,
    pub gpus: Vec<Gpu>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    pub name: String,
    pub memory_bytes: u64,
}

/// The system and processor that this program was built for, as `linux-x86_64`.
pub(crate) fn platform() -> String {
    let system = if std::env::consts::OS == "macos" { "darwin" } else { std::env::consts::OS };
    format!("{system}-{}", std::env::consts::ARCH)
}

impl Metadata {
    /// The values of the config; empty if it is not an object.
    pub(crate) fn config_values(&self) -> Map<String, Value> {
        self.config.as_object().cloned().unwrap_or_default()
    }

    /// The config as the server stores it: each value wrapped, plus `_wandb`. Without `_wandb.t` the server does not
    /// regard the run as started, and it cannot be resumed.
    pub(crate) fn server_config(&self, writer_id: &str, started: f64) -> Map<String, Value> {
        let values = self.config_values();
        let mut config: Map<String, Value> =
            values.into_iter().map(|(key, value)| (key, json!({ "value": value }))).collect();
        let about = json!({
            "t": { "5": CLIENT_VERSION, "12": CLIENT_VERSION, "13": platform() },
            "m": [],
            "e": { writer_id: self.file(writer_id, started) },
            "cli_version": CLIENT_VERSION,
        });
        config.insert("_wandb".to_owned(), json!({ "value": about }));
        config
    }

    /// The content of `wandb-metadata.json`.
    pub(crate) fn file(&self, writer_id: &str, started: f64) -> Value {
        let mut file = json!({
            "os": self.os,
            "startedAt": format!("{}Z", clock::iso_microseconds(started)),
            "args": self.args,
            "program": self.program,
            "host": self.host,
            "cpu_count": self.cpu_cores,
            "cpu_count_logical": self.cpu_threads,
            // Text, as all 64-bit numbers in protobuf's JSON form.
            "memory": { "total": self.memory_bytes.to_string() },
            "writerId": writer_id,
        });
        if let Some(executable) = &self.executable {
            file["executable"] = json!(executable);
        }
        if let Some(gpu) = self.gpus.first() {
            file["gpu"] = json!(gpu.name);
            file["gpu_count"] = json!(self.gpus.len());
            let each = |gpu: &Gpu| json!({ "name": gpu.name, "memoryTotal": gpu.memory_bytes.to_string() });
            file["gpu_nvidia"] = self.gpus.iter().map(each).collect();
        }
        file
    }
}

/// The content of `config.yaml`: the config of the server in block style.
pub(crate) fn yaml(config: &Map<String, Value>) -> String {
    let mut text = String::new();
    write_block(config, 0, &mut text);
    text
}

fn write_block(values: &Map<String, Value>, depth: usize, text: &mut String) {
    for (key, value) in values {
        text.push_str(&"    ".repeat(depth));
        // A JSON string is also a YAML string, whatever it contains.
        text.push_str(&Value::from(key.as_str()).to_string());
        text.push(':');
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                text.push('\n');
                write_block(inner, depth + 1, text);
            }
            _ => {
                text.push(' ');
                text.push_str(&flow(value));
                text.push('\n');
            }
        }
    }
}

/// JSON is YAML, except for numbers such as `1e-5`, which YAML 1.1 reads as text without a point.
fn flow(value: &Value) -> String {
    match value {
        Value::Array(values) => format!("[{}]", values.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(values) => {
            let pairs = values.iter().map(|(key, value)| format!("{}: {}", Value::from(key.as_str()), flow(value)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
        }
        Value::Number(number) => {
            let text = number.to_string();
            match text.split_once('e') {
                Some((digits, exponent)) => {
                    let point = if digits.contains('.') { "" } else { ".0" };
                    let sign = if exponent.starts_with('-') { "" } else { "+" };
                    format!("{digits}{point}e{sign}{}", exponent.trim_start_matches('+'))
                }
                None => text,
            }
        }
        _ => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_config_file_is_yaml_that_keeps_types() {
        let config =
            json!({"lr": {"value": 1e-5}, "big": {"value": 1e30}, "b": {"value": [1, "yes", 2e-7]}, "a b": null});
        let text = yaml(config.as_object().unwrap());
        let expected = "\"a b\": null\n\"b\":\n    \"value\": [1, \"yes\", 2.0e-7]\n\"big\":\n    \"value\": 1.0e+30\n\
                        \"lr\":\n    \"value\": 1.0e-5\n";
        let expected_without = expected.replace("1.0e-5", "0.00001");
        assert!(text == expected || text == expected_without, "{text}");
    }

    #[test]
    fn the_servers_config_says_which_client_began_the_run() {
        let metadata = Metadata {
            config: json!({"lr": 0.1}),
            gpus: vec![Gpu { name: "H200".to_owned(), memory_bytes: 5 }],
            ..Metadata::default()
        };
        let config = metadata.server_config("writer", 0.0);
        assert_eq!(config["lr"], json!({"value": 0.1}));
        assert_eq!(config["_wandb"]["value"]["t"]["5"], CLIENT_VERSION);
        let environment = &config["_wandb"]["value"]["e"]["writer"];
        assert_eq!(environment["gpu"], "H200");
        assert_eq!(environment["startedAt"], "1970-01-01T00:00:00.000000Z");
        assert!(Metadata::default().config_values().is_empty());
    }
}
