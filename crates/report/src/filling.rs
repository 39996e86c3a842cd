//! Fills a template: with its data, style and script, and the policy that allows only these two.

use anyhow::Context as _;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value, context};
use serde::Serialize;

use super::charts::{ChartData, Drawing};
use super::embedding::{policy_source, script_json};
use super::gallery::CardData;

const STYLE: &str = concat!(
    include_str!("page.css"),
    include_str!("tables.css"),
    include_str!("charts.css"),
    include_str!("pictures.css"),
    include_str!("comparison.css")
);
const SCRIPT: &str = include_str!("page.js");

#[derive(Serialize)]
struct ScriptData<'a> {
    charts: Vec<&'a ChartData>,
    gallery: &'a [CardData],
}

/// The HTML of `template`, which begins with `parts.html` and shows `page`.
///
/// # Errors
/// A template that cannot be filled: a bug of this crate.
pub(super) fn fill(
    template: &'static str,
    generator: &str,
    page: &impl Serialize,
    drawings: &[&Drawing],
    gallery: &[CardData],
) -> anyhow::Result<String> {
    let script_data = ScriptData { charts: drawings.iter().map(|drawing| &drawing.data).collect(), gallery };
    let script_data = script_json(&script_data).context("cannot encode the data of the report")?;
    // A browser hashes what it parsed, without carriage returns that a checkout may have added.
    let (style, script) = (STYLE.replace('\r', ""), SCRIPT.replace('\r', ""));
    let policy = format!(
        "default-src 'none'; img-src data:; style-src {}; script-src {}; base-uri 'none'; form-action 'none'",
        policy_source(&style),
        policy_source(&script)
    );
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.add_template("page.html", template).context("cannot read the template of the report")?;
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
