//! Layer 1: from the id of a Hugging Face Hub repository to a local folder. Bytes to paths; nothing about models.

#[cfg(feature = "hub")]
mod download;

use std::path::PathBuf;

use crate::base::fault::usage;

/// Where the files of a model are looked for when there is no network.
#[cfg(feature = "hub")]
const LOCAL_FOLDER: &str = "get the repository's files on a machine with a network and give their folder in place of \
                            the id";

/// Which files of a repository are wanted beside `config.json` and the weights, where it has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelKind {
    /// `preprocessor_config.json`.
    Encoder,
    /// Also those of the tokenizer and `generation_config.json`.
    WithTokenizer,
}

#[cfg(feature = "hub")]
impl ModelKind {
    fn files(self) -> &'static [&'static str] {
        const FILES: [&str; 5] =
            ["preprocessor_config.json", "generation_config.json", "tokenizer.json", "vocab.json", "merges.txt"];
        match self {
            Self::Encoder => &FILES[..1],
            Self::WithTokenizer => &FILES,
        }
    }

    /// How weights in PyTorch's own format become safetensors.
    fn conversion(self) -> &'static str {
        match self {
            Self::Encoder => {
                "convert it once in Python: from_pretrained(ID).save_pretrained(FOLDER) of AutoModel and of \
                 AutoImageProcessor, and give the folder"
            }
            Self::WithTokenizer => {
                "convert it once in Python: from_pretrained(ID).save_pretrained(FOLDER) of VisionEncoderDecoderModel or \
                 GPT2LMHeadModel, of AutoTokenizer and of AutoImageProcessor, and give the folder"
            }
        }
    }
}

/// The folder with `config.json`, the weights and the files of `kind` of the Hub repository `id` (`owner/name`, or
/// `name` alone for the oldest ones): what is not in the Hub's ordinary cache is downloaded into it.
///
/// The weights are `model.safetensors`, or `model.safetensors.index.json` and the shards that it names. The
/// environment variables are those of the Hub's own tools: `HF_TOKEN`, `HF_ENDPOINT`, `HF_HOME`, `HF_HUB_CACHE`,
/// `HF_HUB_OFFLINE`.
///
/// # Errors
/// An id that cannot be one; a repository or file that is not there or not shown; weights in PyTorch's own format
/// alone; no network and no cached copy; a program that was built without the feature `hub`.
#[cfg_attr(not(feature = "hub"), expect(unused_variables, reason = "nothing can be downloaded"))]
pub fn model_folder(id: &str, kind: ModelKind) -> anyhow::Result<PathBuf> {
    check_id(id)?;
    #[cfg(feature = "hub")]
    return download::model(id, kind, &download::Settings::from_environment());
    #[cfg(not(feature = "hub"))]
    return Err(crate::base::fault::fault(
        format!("cannot download {id} from the Hub: this program was built without the feature hub"),
        "give a local folder in place of the id, or build with `--features hub`",
    ));
}

/// The Hub's own rules for ids (`validate_repo_id` of `huggingface_hub`).
fn check_id(id: &str) -> anyhow::Result<()> {
    let is_part = |part: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        !part.is_empty() && part.chars().all(allowed) && !part.starts_with(['-', '.']) && !part.ends_with(['-', '.'])
    };
    let parts: Vec<&str> = id.split('/').collect();
    let fits = parts.len() <= 2 && id.len() <= 96 && !id.contains("--") && !id.contains("..");
    if fits && !id.ends_with(".git") && parts.into_iter().all(is_part) {
        return Ok(());
    }
    Err(usage(
        format!("\"{id}\" is neither a folder that exists nor the id of a Hub repository"),
        "an id is owner/name, such as google/vit-base-patch16-224-in21k; for a folder check the path",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fault::is_usage;

    #[test]
    fn ids_of_the_hub_are_accepted() {
        for id in ["google/vit-base-patch16-224-in21k", "gpt2", "WinKawaks/vit-tiny-patch16-224", "a/b_c.d-e", "timm/x"]
        {
            assert!(check_id(id).is_ok(), "{id}");
        }
    }

    #[test]
    fn paths_and_mistyped_ids_are_refused_before_any_download() {
        for id in ["", "/", "./vit", "../vit", "a/b/c", "a//b", "owner/", "/name", "a b/c", "a/b--c", "a/-b", "a/b.git"]
        {
            let error = model_folder(id, ModelKind::Encoder).unwrap_err();
            assert!(is_usage(&error), "{id}: {error:?}");
        }
        assert!(model_folder(&"x".repeat(97), ModelKind::Encoder).is_err());
    }
}
