//! The programs that are measured: the shipped ones, and the floors.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Where they are built.
#[derive(Debug)]
pub(crate) struct Programs {
    folder: PathBuf,
}

/// The name under which each is built, and where it is on the node.
const INSTALLED: [(&str, &str); 4] = [
    ("doorbell-device-plugin", "plugin"),
    ("doorbell", "cni"),
    ("doorbell-bench-floor", "floor"),
    ("doorbell-bench-line", "line"),
];

impl Programs {
    /// Beside this one.
    pub(crate) fn beside() -> Result<Self> {
        let this = std::env::current_exe()?;
        Ok(Self { folder: this.parent().context("a program without a folder")?.to_owned() })
    }

    /// The size of one as it was built, in bytes.
    pub(crate) fn size(&self, name: &str) -> Result<u64> {
        let file = self.folder.join(name);
        Ok(fs::metadata(&file).with_context(|| format!("look at {}", file.display()))?.len())
    }

    /// Puts them where they are on the node.
    pub(crate) fn install(&self, root: &Path) -> Result<()> {
        for (built, name) in INSTALLED {
            let from = self.folder.join(built);
            fs::copy(&from, root.join(name)).with_context(|| format!("copy {}", from.display()))?;
        }
        Ok(())
    }
}
