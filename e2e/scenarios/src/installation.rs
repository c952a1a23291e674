//! The host's side of an installation: the image of the programs under test, and what the chart makes of the values that
//! the scenarios install it with.

use std::fs;
use std::path::PathBuf;

use anyhow::{Result, anyhow};
use e2e_install::{helm, image};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::host;
use crate::rig::daemonset::{self, INSTALLED};

/// What goes into the guest for it.
pub(crate) struct Installation {
    pub(crate) files: Vec<PathBuf>,
    /// Has them.
    _folder: TempDir,
}

impl Installation {
    pub(crate) fn make() -> Result<Self> {
        let folder = TempDir::new()?;
        let mut files = vec![image::build(host::programs()?, folder.path())?.archive];
        let values: Vec<Value> = INSTALLED.iter().map(|(_, config)| values(config)).collect::<Result<_>>()?;
        for ((name, _), rendered) in INSTALLED.iter().zip(helm::render(&values)?) {
            let file = folder.path().join(daemonset::file(name));
            fs::write(&file, rendered.map_err(|error| anyhow!("{name}: {error}"))?.manifest())?;
            files.push(file);
        }
        Ok(Self { files, _folder: folder })
    }
}

/// The chart's values for the pools of a config.
fn values(config: &str) -> Result<Value> {
    let config: Value = serde_saphyr::from_str(config)?;
    Ok(json!({ "pools": config["pools"] }))
}
