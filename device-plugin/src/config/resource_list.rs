//! The config of sriov-network-device-plugin (sriov-dp), a `resourceList` in JSON, as one of ours: what it selects and what its pods
//! get stay the same. What can't stay is refused by its path, what has no effect is noted by it.
//!
//! It follows that plugin's README ("Configurations") and, where this is silent, its sources of June 2026 (`pkg/types/types.go`,
//! `pkg/resources/deviceSelectors.go`, `pkg/infoprovider`).

mod device_type;
mod resource;
mod selectors;
mod tree;

use std::borrow::Cow;
use std::fmt;

use self::resource::Names;
use self::tree::{At, Findings};
pub(super) use self::tree::{Node, Tree};
use super::{Cdi, Config, Loaded, LogLevel, Registration, ResourcePrefix};

/// The prefix of resources that give none (`-resource-prefix` of their command line, by default).
const PREFIX: &str = "intel.com";

/// Something about a field of the list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remark {
    /// Line, from 1.
    pub line: u64,
    /// Path of the field: `resourceList[0].selectors[0].isRdma`.
    pub field: String,
    /// What is to be known of it.
    pub message: String,
}

/// Whether the text is such a list. One that can't be read is not, and neither is a file of ours with a field too many.
pub(super) fn is_one(text: &str) -> bool {
    // Every start reads a file of ours, which says no such word. A key may be written with escapes.
    if !text.to_ascii_lowercase().contains("resourcelist") && !text.contains('\\') {
        return false;
    }
    let Ok(Node { value: Tree::Map(fields), .. }) = serde_saphyr::from_str(&spaced(text)) else {
        return false;
    };
    let has = |is_it: &dyn Fn(&str) -> bool| fields.iter().any(|(key, _)| is_it(&key.value));
    has(&|key| key.eq_ignore_ascii_case("resourceList")) && !has(&|key| key == "apiVersion")
}

/// Reads the list; an error has all that can't be taken over. `prefix` is that of resources which give none.
pub(super) fn read(text: &str, prefix: Option<&ResourcePrefix>) -> Result<Loaded, Vec<Remark>> {
    let node = serde_saphyr::from_str::<Node>(&spaced(text));
    let node = node.map_err(|error| {
        let line = error.location().map_or(1, |location| location.line());
        vec![Remark { line, field: "resourceList".to_owned(), message: super::message(&error) }]
    })?;
    let findings = Findings::default();
    let pools = {
        let mut fields = At::root(&findings, &node).fields();
        let list = fields.take("resourceList").map(|list| list.list()).unwrap_or_default();
        fields.ignore_rest("it has no meaning");
        let prefix = prefix.map_or_else(|| PREFIX.to_owned(), ToString::to_string);
        let mut names = Names::default();
        list.iter().filter_map(|resource| resource::pool(resource, &prefix, &mut names)).collect()
    };
    let (refused, notes) = findings.into_parts();
    if !refused.is_empty() {
        return Err(refused);
    }
    let config = Config {
        resource_prefix: ResourcePrefix::default(),
        cdi: Cdi::default(),
        containerd_config: None,
        registration: Registration::default(),
        log_level: LogLevel::default(),
        pools,
    };
    Ok(Loaded { config, notes })
}

/// JSON is YAML but for tabs between its marks; within its texts there are none.
fn spaced(text: &str) -> Cow<'_, str> {
    match text.trim_start().starts_with('{') {
        true => text.replace('\t', " ").into(),
        false => text.into(),
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.line, self.field, self.message)
    }
}
