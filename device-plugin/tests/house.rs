//! Rules of the house that the compiler does not know.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            sources(&path, found);
        } else if name.ends_with(".rs") || name.ends_with(".sh") || name == "init" {
            found.push(path);
        }
    }
}

/// Lines of the workspace's sources, shell included, this file left out, that `bad` points at.
fn lines(bad: impl Fn(&Path, &str) -> bool) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for folder in ["src-common", "device-plugin", "cni", "e2e"] {
        sources(&root.join(folder), &mut files);
    }
    files.retain(|file| !file.ends_with("device-plugin/tests/house.rs"));
    assert!(files.len() > 50, "only {} sources were found", files.len());
    let mut found = Vec::new();
    for file in files {
        for (number, line) in fs::read_to_string(&file).unwrap().lines().enumerate() {
            if bad(&file, line) {
                found.push(format!("{}:{}: {line}", file.display(), number + 1));
            }
        }
    }
    found
}

/// It resets a device that somebody else holds and uses; an exclusive open does the same safely.
#[test]
fn the_reset_attribute_of_sysfs_is_never_named() {
    let named = lines(|_, line| {
        // Whole-line comments only: a `//` inside a line may stand in a string.
        let code = if line.trim_start().starts_with("//") { "" } else { line };
        code.contains("/reset\"")
            // A key of JSON, as the probe's report has one, is no path.
            || code.split("\"reset\"").skip(1).any(|rest| !rest.starts_with(':'))
            || code.contains("/reset'")
            || code.split("> reset").skip(1).any(|rest| !rest.starts_with(char::is_alphanumeric))
    });
    assert!(named.is_empty(), "{named:#?}");
}

#[test]
fn unsafe_stands_in_one_file_of_the_product_and_one_of_the_probe() {
    let allowed = ["src-common/src/trial/ioctl.rs", "e2e/probe/src/memory.rs"];
    let elsewhere = lines(|file, line| {
        let code = line.split("//").next().unwrap_or_default();
        let says =
            code.contains("unsafe {") || code.contains("unsafe fn") || code.contains("allow(unsafe_code)");
        says && !allowed.iter().any(|allowed| file.ends_with(allowed))
    });
    assert!(elsewhere.is_empty(), "{elsewhere:#?}");
}
