//! What installs Doorbell on a node, made as users make it: the chart's objects by Helm's own engine ([`helm`]), the image
//! of the Dockerfile by buildah ([`image`]). Neither needs a cluster or a registry. [`prometheus`] reads what it then says of itself.

mod command;
pub mod helm;
pub mod image;
pub mod prometheus;
mod python;

use std::path::{Path, PathBuf};

/// A file or folder of the project.
#[must_use]
pub fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}
