//! The forms in which transformers keeps a captioner. A new one is a file here with its `LAYOUT` and a line in the table
//! below: where the configs of encoder and decoder are, what the names of the tensors begin with, which tokens stand
//! around a caption, and how all of that is written.

mod blip;
mod layout;
mod vision_encoder_decoder;

use anyhow::Result;
use serde_json::Value;

use crate::model::captioner::CaptionerShape;
use base::error::failure;

pub use layout::Layout;

/// A model that fits several has the form of the first.
static LAYOUTS: [&Layout; 2] = [&blip::LAYOUT, &vision_encoder_decoder::LAYOUT];

/// The layout of a `config.json`; `None` if it is not that of a captioner, as a BLIP for questions is none.
pub fn of_config(config: &Value) -> Option<&'static Layout> {
    LAYOUTS.into_iter().find(|layout| layout.describes(config))
}

/// The layout in which a model is exported.
///
/// # Errors
/// A model that transformers has no class for.
pub fn of_shape(shape: &CaptionerShape) -> Result<&'static Layout> {
    LAYOUTS.into_iter().find(|layout| (layout.takes)(shape)).ok_or_else(|| {
        failure(
            format!(
                "transformers has no class for a {} encoder with a {} decoder",
                shape.encoder.family(),
                shape.decoder.family()
            ),
            "its checkpoint captions here; to export a model, take the decoder of a BLIP with the encoder of a BLIP",
        )
    })
}

/// The `model_type`s of captioners, for messages.
pub fn known() -> String {
    LAYOUTS.map(|layout| format!("{:?}", layout.model_type)).join(" or ")
}

/// Their classes, for messages.
pub fn classes() -> String {
    LAYOUTS.map(|layout| layout.class).join(" or ")
}
