//! The image of the Dockerfile.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use e2e_install::image;
use serde_json::json;

/// Programs that the toolchain has linked, in the place of ours: what is looked at here is what is made of them.
fn programs(folder: &Path) -> Vec<PathBuf> {
    let copy = |name: &&str| {
        let path = folder.join(name);
        fs::copy(std::env::current_exe().unwrap(), &path).unwrap();
        path
    };
    image::PROGRAMS.iter().map(copy).collect()
}

#[test]
fn it_has_the_two_programs_and_says_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let image = image::build(&programs(folder.path()), folder.path()).unwrap();
    let config = &image.configuration["OCIv1"]["config"];
    assert_eq!(config["Entrypoint"], json!(["/usr/bin/doorbell-device-plugin"]));
    assert_eq!(config["Cmd"], json!(["run"]));
    for label in ["title", "description", "licenses", "version"] {
        assert!(config["Labels"][format!("org.opencontainers.image.{label}")].is_string(), "{label}");
    }
    assert_eq!(image.files().unwrap(), ["usr/bin/doorbell", "usr/bin/doorbell-device-plugin"]);
}
