//! The chart by Helm's own engine, which a package of PyPI's brings: what is rendered, and what is refused.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Value, json};

use crate::{project, python};

const PACKAGE: &str = "helm-python-sdk==0.2.2";
const SCRIPT: &str = include_str!("helm.py");
const TEMPLATES: &str = "doorbell/templates/";

/// What Helm makes of the chart with some values, in namespace kube-system.
#[derive(Debug)]
pub struct Rendered {
    /// Each template's text, by its name below `templates/`.
    pub files: BTreeMap<String, String>,
    /// What `helm lint --strict` says of it: nothing, if it is well.
    pub findings: Vec<String>,
}

impl Rendered {
    /// What is installed, as one text: neither the notes, nor the pod of `helm test`.
    #[must_use]
    pub fn manifest(&self) -> String {
        let installed = |name: &str| !name.starts_with("tests/") && name.ends_with(".yaml");
        let texts = self.files.iter().filter(|(name, _)| installed(name)).map(|(_, text)| text.trim());
        let texts = texts.filter(|text| !text.is_empty());
        texts.map(|text| format!("---\n{}\n", text.trim_start_matches("---\n"))).collect()
    }
}

/// What Helm makes of each of these values, or what it says is wrong with them.
pub fn render(values: &[Value]) -> Result<Vec<Result<Rendered, String>>> {
    let chart = project("charts/doorbell");
    let output = python::run(PACKAGE, SCRIPT, chart.as_os_str(), json!(values).to_string().as_bytes())?;
    let answers: Vec<Value> = serde_json::from_slice(&output)?;
    answers.into_iter().map(answer).collect()
}

fn answer(mut answer: Value) -> Result<Result<Rendered, String>> {
    if let Some(error) = answer["error"].as_str() {
        return Ok(Err(error.to_owned()));
    }
    let files: BTreeMap<String, String> = serde_json::from_value(answer["rendered"].take())?;
    let below = |name: String| name.strip_prefix(TEMPLATES).map_or(name.clone(), str::to_owned);
    let files = files.into_iter().map(|(name, text)| (below(name), text)).collect();
    Ok(Ok(Rendered { files, findings: serde_json::from_value(answer["findings"].take())? }))
}
