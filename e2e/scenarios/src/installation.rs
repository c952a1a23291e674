//! The host's side of an installation: the image of the programs under test, and what the chart makes of the values that
//! the scenarios install it with.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, ensure};
use e2e_install::{helm, image, prometheus};
use serde_json::Value;
use tempfile::TempDir;

use crate::host;
use crate::installed::METRICS;
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
        let values: Vec<Value> =
            INSTALLED.iter().map(|(_, config, more)| values(config, more)).collect::<Result<_>>()?;
        for ((name, ..), rendered) in INSTALLED.iter().zip(helm::render(&values)?) {
            let rendered = rendered.map_err(|error| anyhow!("{name}: {error}"))?;
            let test = rendered.files.get("tests/device.yaml").cloned().unwrap_or_default();
            for (file, text) in
                [(daemonset::file(name), rendered.manifest()), (daemonset::test_file(name), test)]
            {
                let file = folder.path().join(file);
                fs::write(&file, text)?;
                files.push(file);
            }
        }
        Ok(Self { files, _folder: folder })
    }
}

/// The chart's values for the pools of a config, and others.
fn values(config: &str, more: &str) -> Result<Value> {
    let (config, mut values): (Value, Value) =
        (serde_saphyr::from_str(config)?, serde_saphyr::from_str(more)?);
    values["pools"] = config["pools"].clone();
    Ok(values)
}

/// Reads the pages of metrics that a scenario has brought, if it has: a device was handed out, wired, and is free again.
pub(crate) fn judge(out: &Path) -> Result<()> {
    if !out.join(METRICS[0]).exists() {
        return Ok(());
    }
    let page =
        |name| -> Result<BTreeMap<String, f64>> { prometheus::samples(&fs::read_to_string(out.join(name))?) };
    let [before, during, after] = METRICS.map(page);
    let (before, during, after) = (before?, during?, after?);
    let grown = |from: &BTreeMap<String, f64>, to: &BTreeMap<String, f64>, name: &str| {
        let [from, to] = [from, to].map(|page| page.get(name).copied().unwrap_or_default());
        ensure!(to == from + 1.0, "{name} was {from} and is {to}");
        Ok(())
    };
    for name in [
        r#"doorbell_allocations_total{outcome="granted",pool="fast"}"#,
        r#"doorbell_container_starts_total{outcome="granted",pool="fast"}"#,
        r#"doorbell_cni_calls_total{code="0",verb="ADD"}"#,
        r#"doorbell_cni_call_duration_seconds_count{verb="ADD"}"#,
        r#"doorbell_devices_claimed{pool="fast"}"#,
    ] {
        grown(&before, &during, name)?;
    }
    grown(&during, &after, r#"doorbell_cni_calls_total{code="0",verb="DEL"}"#)?;
    grown(&after, &during, r#"doorbell_devices_claimed{pool="fast"}"#)?;
    let healthy = during.get(r#"doorbell_devices{pool="fast",reason="",state="healthy"}"#);
    ensure!(healthy == Some(&2.0), "{healthy:?} healthy devices");
    Ok(())
}
