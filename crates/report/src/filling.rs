//! Fills a template: with its data, style and script, and the policy that allows only these two.

use anyhow::Context as _;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value, context};
use serde::Serialize;

use super::charts::{ChartData, Drawing};
use super::embedding::{policy_source, script_json};
use super::gallery::CardData;

/// What the pages of a kind are made of.
pub(super) struct Frame {
    /// It begins with `parts.html`.
    pub(super) template: &'static str,
    pub(super) style: &'static str,
    pub(super) script: &'static str,
    /// Where pictures may come from, as source expressions of a Content-Security-Policy.
    pub(super) picture_sources: &'static str,
}

const STYLE: &str = concat!(
    include_str!("page.css"),
    include_str!("tables.css"),
    include_str!("charts.css"),
    include_str!("pictures.css"),
    include_str!("comparison.css")
);
const SCRIPT: &str = include_str!("page.js");

/// What the script of the pages of runs shows.
#[derive(Serialize)]
pub(super) struct RunScriptData<'a> {
    charts: Vec<&'a ChartData>,
    gallery: &'a [CardData],
}

impl<'a> RunScriptData<'a> {
    pub(super) fn new(drawings: &[&'a Drawing], gallery: &'a [CardData]) -> Self {
        Self { charts: drawings.iter().map(|drawing| &drawing.data).collect(), gallery }
    }
}

impl Frame {
    /// Of pages of runs, which hold their pictures.
    pub(super) const fn of_runs(template: &'static str) -> Self {
        Self { template, style: STYLE, script: SCRIPT, picture_sources: "data:" }
    }
}

/// The HTML of a page that shows `page`; its script gets `script_data`.
///
/// # Errors
/// A template that cannot be filled: a bug of this crate.
pub(super) fn fill(
    frame: &Frame,
    generator: &str,
    page: &impl Serialize,
    script_data: &impl Serialize,
) -> anyhow::Result<String> {
    let script_data = script_json(script_data).context("cannot encode the data of the report")?;
    // A browser hashes what it parsed, without carriage returns that a checkout may have added.
    let (style, script) = (frame.style.replace('\r', ""), frame.script.replace('\r', ""));
    let policy = format!(
        "default-src 'none'; img-src {}; style-src {}; script-src {}; base-uri 'none'; form-action 'none'",
        frame.picture_sources,
        policy_source(&style),
        policy_source(&script)
    );
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.add_template("page.html", frame.template).context("cannot read the template of the report")?;
    let filled = environment.get_template("page.html").and_then(|template| {
        template.render(context! {
            page => Value::from_serialize(page),
            generator => Value::from_safe_string(generator.to_owned()),
            policy => policy,
            style => Value::from_safe_string(style),
            script => Value::from_safe_string(script),
            script_data => Value::from_safe_string(script_data),
        })
    });
    filled.context("cannot fill the template of the report")
}
