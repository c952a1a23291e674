//! Looking at a host that is not this one: `--root`, and the command `capture` that makes what it takes.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use doorbell_common::formats::capture::Capture;
use doorbell_common::host::Host;
use doorbell_common::kernel::memory;
use tempfile::TempDir;

use crate::config::Config;
use crate::{explain, scan};

/// A host to look at.
pub struct Root {
    /// The host.
    pub host: Host,
    /// Bytes of its pages.
    pub page: u64,
    /// Where a capture is laid out for as long as it is looked at.
    _laid_out: Option<TempDir>,
}

impl Root {
    /// This machine.
    pub fn this() -> Result<Self> {
        Ok(Self { host: Host::real(), page: page()?, _laid_out: None })
    }

    /// A folder with a host's tree, whose pages are taken to be like this machine's, or a file that `capture` wrote.
    pub fn at(path: &Path) -> Result<Self> {
        let failed = || format!("--root {}", path.display());
        if path.is_dir() {
            return Ok(Self { host: Host::at(path), page: page()?, _laid_out: None });
        }
        let text = fs::read_to_string(path).with_context(failed)?;
        let capture = Capture::parse(&text).with_context(failed)?;
        let folder = TempDir::with_prefix("doorbell-").context("make a folder for the captured tree")?;
        capture.lay_out(folder.path()).with_context(failed)?;
        Ok(Self { host: Host::at(folder.path()), page: capture.page, _laid_out: Some(folder) })
    }
}

fn page() -> Result<u64> {
    memory::page_size().context("ask for the page size")
}

/// Everything that `scan` and `explain` read of a host, as text for a bug report.
pub fn capture(root: &Root, config: Option<&Config>) -> Result<String> {
    let host = root.host.clone().recording();
    for row in scan::rows(&host, config, root.page).context("scan")? {
        // What can't be explained has left what was read of it.
        if let Ok(id) = row.id.parse() {
            let _ = explain::explain(&host, config, &id, root.page);
        }
    }
    Ok(Capture { page: root.page, entries: host.recorded() }.document()?)
}
