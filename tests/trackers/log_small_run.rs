//! Logs a small fixed run, which the scripts in `tests/reference` compare with the official client's.
//!
//! `log-small-run DIR PNG [ID STEP]`: settings come from the environment; `ID STEP` resumes a run.

#![expect(clippy::disallowed_methods, reason = "its output is its result")]

use std::io::Write as _;
use std::sync::Arc;

use anyhow::Context as _;
use base::clock::unix_seconds;
use serde_json::{Map, Value, json};
use wandb::{Context, Metadata, Picture, ResumePoint, Run, Settings, number};

fn row(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let (dir, png) = (args.get(1).context("a folder")?, args.get(2).context("a picture")?);
    let resume = match (args.get(3), args.get(4)) {
        (Some(id), Some(step)) => Some(ResumePoint { run_id: id.clone(), step: step.parse()? }),
        _ => None,
    };
    let settings = Settings::resolve(&wandb::Options::default(), dir.as_ref(), &|name| std::env::var(name).ok())?;
    let metadata = Metadata {
        config: json!({"lr": 1e-3, "tiny": 1e-7, "model": {"hidden": 8, "layers": [1, 2]}, "text": "yes", "none": null}),
        program: "train.py".to_owned(),
        args: args[1..].to_vec(),
        host: "machine".to_owned(),
        os: "Linux".to_owned(),
        cpu_cores: 2,
        cpu_threads: 2,
        memory_bytes: 1 << 30,
        ..Metadata::default()
    };
    let say = Arc::new(|_, text: &str| {
        let _ = writeln!(std::io::stderr(), "{text}");
    });
    let mut run = Run::start(&settings, &metadata, resume.as_ref(), Context::real(say))?;
    writeln!(std::io::stdout(), "{}", json!({"id": run.id(), "folder": run.folder(), "url": run.url()}))?;
    let png = std::fs::read(png)?;
    run.console_line(unix_seconds(), "the run begins")?;
    for step in 0..6 {
        run.log(step, &row(&json!({"train/loss": 1.0 / (step + 1) as f64, "nested": {"a": step}})))?;
        run.console_line(unix_seconds(), &format!("step {step}"))?;
        run.system_metrics(unix_seconds(), &row(&json!({"cpu": 12.5, "gpu.0.gpu": step})))?;
    }
    let picture = |caption| Picture { png: &png, width: 5, height: 4, caption };
    run.log(6, &row(&json!({"nan": number(f64::NAN), "endless": number(f64::INFINITY)})))?;
    run.images("val/samples", 6, &[picture("a dog"), picture("ein Hündchen")])?;
    run.summary(&row(&json!({"best": 0.5})))?;
    match std::env::var("SMALL_RUN_END").as_deref() {
        // As if it were killed.
        Ok("kill") => {
            run.commit()?;
            std::process::abort()
        }
        _ => run.finish(0),
    }
}
