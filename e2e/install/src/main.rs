//! `doorbell-image <folder of the programs> <archive>`: the image that nodes run, as a docker archive. It fails where the
//! image is larger than it is to be.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use e2e_install::image::{self, PROGRAMS};

/// Bytes that nodes have to fetch and keep, at most.
const AT_MOST: u64 = 15_000_000;

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (programs, archive) =
        arguments.next().zip(arguments.next()).context("usage: <programs> <archive>")?;
    let programs: Vec<PathBuf> = PROGRAMS.iter().map(|name| programs.join(name)).collect();
    let folder = tempfile::tempdir()?;
    let image = image::build(&programs, folder.path())?;
    fs::copy(&image.archive, &archive).with_context(|| format!("write {}", archive.display()))?;
    let size = fs::metadata(&archive)?.len();
    println!("{}: {}, {size} bytes", archive.display(), image::NAME);
    for file in image.files()? {
        println!("  {file}");
    }
    ensure!(size <= AT_MOST, "the image is to have {AT_MOST} bytes at most");
    Ok(())
}
