//! The image of the Dockerfile, by buildah and without a registry: the stage that compiles is given, as programs that are
//! there already.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::command::run;
use crate::project;

/// The Dockerfile's stage that compiles, and where it puts the programs.
const STAGE: &str = "build";
const OUT: &str = "out";
/// What the image has, and the chart runs.
pub const PROGRAMS: [&str; 2] = ["doorbell-device-plugin", "doorbell"];
/// As containerd has the name that the chart's default values give.
pub const NAME: &str = "docker.io/library/doorbell:0.1.0";

/// An image, as a docker archive.
#[derive(Debug)]
pub struct Image {
    /// The archive.
    pub archive: PathBuf,
    /// Its configuration: entry point, labels (`.OCIv1.config`).
    pub configuration: Value,
}

/// Makes the image of these programs, stripped as a release's are; everything is below `folder`.
pub fn build(programs: &[PathBuf], folder: &Path) -> Result<Image> {
    let out = folder.join("stage").join(OUT);
    fs::create_dir_all(&out)?;
    for name in PROGRAMS {
        let of_name = |path: &&PathBuf| path.file_name().is_some_and(|file| file == name);
        let program = programs.iter().find(of_name).with_context(|| format!("{name} is not given"))?;
        run(Command::new("strip").arg("-o").args([&out.join(name), program]))?;
    }
    let stage = format!("{STAGE}={}", folder.join("stage").display());
    let build = ["build", "--isolation", "chroot", "--build-context", &stage, "--tag", NAME, "--quiet"];
    run(buildah(folder).args(build).arg("--file").arg(project("Dockerfile")).arg(folder))?;
    let archive = folder.join("image.tar");
    let destination = format!("docker-archive:{}:{NAME}", archive.display());
    run(buildah(folder).args(["push", "--quiet", NAME, &destination]))?;
    let inspected = run(buildah(folder).args(["inspect", "--type", "image", NAME]))?;
    Ok(Image { archive, configuration: serde_json::from_str(&inspected)? })
}

/// With a storage of its own.
fn buildah(folder: &Path) -> Command {
    let mut command = Command::new("buildah");
    command.arg("--root").arg(folder.join("storage")).arg("--runroot").arg(folder.join("run"));
    command.args(["--storage-driver", "vfs"]);
    command
}

impl Image {
    /// The files in its layers, by their paths.
    pub fn files(&self) -> Result<Vec<String>> {
        let layers = run(Command::new("tar").arg("-tf").arg(&self.archive))?;
        let mut files = Vec::new();
        for layer in layers.lines().filter(|name| name.ends_with(".tar") && !name.contains('/')) {
            let unpack = format!("tar -xOf '{}' '{layer}' | tar -tf -", self.archive.display());
            let listed = run(Command::new("sh").args(["-c", &unpack]))?;
            files.extend(listed.lines().filter(|path| !path.ends_with('/')).map(str::to_owned));
        }
        files.sort();
        Ok(files)
    }
}
