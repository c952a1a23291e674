//! Pages of metrics by the parser of Prometheus' own client, which is strict about OpenMetrics.

use std::collections::BTreeMap;
use std::ffi::OsStr;

use anyhow::{Context, Result};

use crate::python;

const PACKAGE: &str = "prometheus-client==0.26.0";
const SCRIPT: &str = include_str!("prometheus.py");

/// The samples of a page, by name and labels, these in order: `doorbell_cni_calls_total{code="0",verb="ADD"}`.
pub fn samples(page: &str) -> Result<BTreeMap<String, f64>> {
    let output = python::run(PACKAGE, SCRIPT, OsStr::new("-"), page.as_bytes())?;
    serde_json::from_slice(&output).with_context(|| format!("the page of metrics does not parse:\n{page}"))
}
