//! Writes what the program reads of pictures: for each file NAME of the folder FROM a file NAME.ppm with its pixels, or
//! NAME.error with the reason why there are none, in the folder TO. `scripts/check-jpegs.py` holds them against
//! Pillow's.
//!
//!     write_pixels FROM TO

#![expect(clippy::disallowed_methods, reason = "a check outside of the program reads and writes as it likes")]

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use base::error::describe;
use pixels::image_file::load_rgb;

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (from, to) = arguments.next().zip(arguments.next()).context("give two folders: FROM TO")?;
    fs::create_dir_all(&to)?;
    for entry in fs::read_dir(&from)? {
        let path = entry?.path();
        let name = path.file_name().context("a file has a name")?.to_string_lossy().into_owned();
        match load_rgb(&path) {
            Ok(picture) => {
                let mut content = format!("P6 {} {} 255\n", picture.width(), picture.height()).into_bytes();
                content.extend(picture.as_raw());
                fs::write(to.join(format!("{name}.ppm")), content)?;
            }
            Err(error) => fs::write(to.join(format!("{name}.error")), describe(&error))?,
        }
    }
    Ok(())
}
