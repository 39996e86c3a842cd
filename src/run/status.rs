//! `status.json`: how a run ended. While a process trains, and after one that was killed, it says `running`; a resume
//! sets it back to that.

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::run::run_directory::{RunDirectory, STATUS};
use base::bounded_file::{self, MAX_DESCRIPTION_BYTES};

const FORMAT_VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum RunStatus {
    /// It is being trained, or its process was killed.
    Running,
    /// After its last epoch.
    Finished,
    /// Before its last epoch, since validations brought no better model.
    EndedEarly,
    /// It was asked to stop, and saved.
    Interrupted {
        /// Updates done.
        step: u64,
    },
    Failed {
        message: String,
    },
}

#[derive(Serialize, Deserialize)]
struct File {
    format_version: u32,
    #[serde(flatten)]
    status: RunStatus,
}

impl RunStatus {
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, run: &RunDirectory) -> anyhow::Result<()> {
        let file = File { format_version: FORMAT_VERSION, status: self.clone() };
        run.write(STATUS, &format!("{}\n", serde_json::to_string(&file)?))
    }

    /// `None`: the version that wrote the run knew no such file.
    ///
    /// # Errors
    /// A file that cannot be read, or is not ours.
    pub fn read(run: &RunDirectory) -> anyhow::Result<Option<Self>> {
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        let path = run.status();
        if !path.exists() {
            return Ok(None);
        }
        let cannot = || format!("cannot read {}", path.display());
        let bytes = bounded_file::read(&path, MAX_DESCRIPTION_BYTES).with_context(cannot)?;
        let version: Version = serde_json::from_slice(&bytes).with_context(cannot)?;
        anyhow::ensure!(
            version.format_version == FORMAT_VERSION,
            "{} has format version {}, and this program reads {FORMAT_VERSION}",
            path.display(),
            version.format_version
        );
        let file: File = serde_json::from_slice(&bytes).with_context(cannot)?;
        Ok(Some(file.status))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn each_status_is_read_as_it_was_written_and_the_last_one_counts() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDirectory::create(folder.path(), "run").unwrap();
        assert_eq!(RunStatus::read(&run).unwrap(), None);
        for (status, text) in [
            (RunStatus::Finished, r#"{"format_version":1,"status":"finished"}"#),
            (RunStatus::EndedEarly, r#"{"format_version":1,"status":"ended_early"}"#),
            (RunStatus::Interrupted { step: 12 }, r#"{"format_version":1,"status":"interrupted","step":12}"#),
            (
                RunStatus::Failed { message: "no \"disk\"".to_owned() },
                r#"{"format_version":1,"status":"failed","message":"no \"disk\""}"#,
            ),
            (RunStatus::Running, r#"{"format_version":1,"status":"running"}"#),
        ] {
            status.write(&run).unwrap();
            assert_eq!(fs::read_to_string(run.status()).unwrap().trim_end(), text);
            assert_eq!(RunStatus::read(&run).unwrap(), Some(status));
        }
    }

    #[test]
    fn a_newer_or_damaged_file_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDirectory::create(folder.path(), "run").unwrap();
        for text in [r#"{"format_version":2,"status":"dreaming"}"#, r#"{"format_version":1,"status":"dreaming"}"#, "{"]
        {
            fs::write(run.status(), text).unwrap();
            let error = format!("{:#}", RunStatus::read(&run).unwrap_err());
            assert!(error.contains("status.json"), "{error}");
        }
    }
}
