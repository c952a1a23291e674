//! containerd's config, as far as it says whether CDI names are taken (containerd-config.toml(5), docs/cri/config.md).
//!
//! Releases differ in how an imported file is merged: 1.7 replaces a plugin's section as a whole, later ones merge it
//! key by key. Which one runs can't be seen here, so CDI counts as on where both come to that.

use std::collections::{BTreeSet, VecDeque};

use doorbell_common::formats::cdi;
use doorbell_common::host::{self, Host, HostError};
use serde::Deserialize;

use super::CdiChoice;

/// The first version with the CRI plugin split in two; containerd 1.7 refuses it.
const SPLIT: u32 = 3;
/// The first version with full plugin names.
const FULL_NAMES: u32 = 2;
/// Names of the CRI plugin in `disabled_plugins`, the first from version 1.
const CRI: [&str; 3] = ["cri", "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime"];
/// Where our CDI specifications are, by both of its names (Linux has /var/run point at /run).
const SPEC_DIRS: [&str; 2] = [cdi::FOLDER, "/run/cdi"];

/// Why the config says nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConfigError {
    /// A file that is named or imported can't be read.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A file is no TOML, or has other types than containerd's.
    #[error("{path}:{line}: {message}")]
    Malformed { path: String, line: usize, message: String },
    /// An import that is not followed.
    #[error("{path} imports `{import}`: only the last part may hold a `*`, and nothing else of a pattern")]
    Pattern { path: String, import: String },
}

/// What is read of one file; fields that it lacks are empty.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct File {
    version: u32,
    imports: Vec<String>,
    disabled_plugins: Vec<String>,
    plugins: Plugins,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Plugins {
    #[serde(rename = "io.containerd.grpc.v1.cri")]
    cri: Option<Cri>,
    #[serde(rename = "io.containerd.cri.v1.runtime")]
    runtime: Option<Cri>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Cri {
    enable_cdi: Option<bool>,
    cdi_spec_dirs: Option<Vec<String>>,
}

/// Whether the containerd of this config takes CDI names; `None` where its CRI plugin is disabled.
pub(super) fn cdi(host: &Host, path: &str) -> Result<Option<CdiChoice>, ConfigError> {
    let main = read(host, path)?;
    let version = main.version;
    let files = with_imports(host, path, main)?;
    if files.iter().flat_map(|file| &file.disabled_plugins).any(|plugin| CRI.contains(&plugin.as_str())) {
        return Ok(None);
    }
    Ok(Some(choice(path, version, &files)))
}

fn choice(path: &str, version: u32, files: &[File]) -> CdiChoice {
    if version < FULL_NAMES {
        return CdiChoice::off(format!("{path} is of version 1, which knows no CDI"));
    }
    let sections: Vec<&Cri> = files.iter().filter_map(|file| file.cri(version)).collect();
    let ours = |dir: &String| SPEC_DIRS.contains(&dir.trim_end_matches('/'));
    let last_dirs = sections.iter().rev().find_map(|section| section.cdi_spec_dirs.as_ref());
    if last_dirs.is_some_and(|dirs| !dirs.iter().any(ours)) {
        return CdiChoice::off(format!("cdi_spec_dirs of {path} leaves out {}", SPEC_DIRS[0]));
    }
    let said = if version < SPLIT {
        sections.last().and_then(|section| section.enable_cdi)
    } else {
        sections.iter().rev().find_map(|section| section.enable_cdi)
    };
    match said {
        Some(true) => CdiChoice::on(format!("{path} sets enable_cdi")),
        Some(false) => CdiChoice::off(format!("{path} has enable_cdi = false")),
        None if version < SPLIT => CdiChoice::off(format!(
            "{path} is of version 2 and does not set enable_cdi, which is off in containerd 1.7"
        )),
        None => CdiChoice::on(format!("{path} is of version {version}, in which CDI is on by default")),
    }
}

impl File {
    /// The section that says something about CDI, in a config whose main file is of `version`: an imported file may
    /// be older, and is migrated.
    fn cri(&self, version: u32) -> Option<&Cri> {
        let Plugins { cri, runtime } = &self.plugins;
        match (version, self.version) {
            (..SPLIT, _) => cri.as_ref(),
            (_, SPLIT..) => runtime.as_ref(),
            (_, _) => runtime.as_ref().or(cri.as_ref()),
        }
    }
}

/// The main file and what it imports, in the order in which containerd merges them; each file once, as there.
fn with_imports(host: &Host, path: &str, main: File) -> Result<Vec<File>, ConfigError> {
    let mut seen = BTreeSet::from([path.to_owned()]);
    let mut pending: VecDeque<String> = imports(host, path, &main)?.into();
    let mut files = vec![main];
    while let Some(path) = pending.pop_front() {
        if seen.insert(path.clone()) {
            let file = read(host, &path)?;
            pending.extend(imports(host, &path, &file)?);
            files.push(file);
        }
    }
    Ok(files)
}

fn read(host: &Host, path: &str) -> Result<File, ConfigError> {
    let text = host.read_text(path)?;
    toml::from_str(&text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        let line = 1 + text.bytes().take(start).filter(|byte| *byte == b'\n').count();
        ConfigError::Malformed { path: path.to_owned(), line, message: error.message().to_owned() }
    })
}

/// Files that a file imports: a relative path starts at its folder, a pattern that matches nothing imports nothing.
fn imports(host: &Host, path: &str, file: &File) -> Result<Vec<String>, ConfigError> {
    let own_folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut paths = Vec::new();
    for import in &file.imports {
        let full = if import.starts_with('/') { import.clone() } else { format!("{own_folder}/{import}") };
        match full.rsplit_once('/') {
            _ if !import.contains('*') => paths.push(full),
            Some((folder, name)) if !folder.contains('*') && !import.contains(['?', '[', '\\']) => {
                paths.extend(matching(host, folder, name)?);
            }
            _ => return Err(ConfigError::Pattern { path: path.to_owned(), import: import.clone() }),
        }
    }
    Ok(paths)
}

fn matching(host: &Host, folder: &str, pattern: &str) -> host::Result<Vec<String>> {
    let mut names = host.list(folder)?;
    names.retain(|name| matches(pattern, name));
    Ok(names.iter().map(|name| format!("{folder}/{name}")).collect())
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, tail)) => name.strip_prefix(head).is_some_and(|rest| {
            rest.char_indices().any(|(at, _)| matches(tail, &rest[at..])) || matches(tail, "")
        }),
    }
}
