//! Who may open a device node inside the container, for those that do not run as root.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

/// Reading and writing, by all: what else a mode can say, no device node needs.
const MOST: u32 = 0o666;

/// Mode and owner of a pool's device nodes in the container; what is `None` stays as the runtime makes it.
///
/// Only CDI can carry them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NodePermissions {
    /// Permission bits, within `0666`.
    pub mode: Option<u32>,
    /// User id inside the container.
    pub uid: Option<u32>,
    /// Group id inside the container.
    pub gid: Option<u32>,
}

/// `nodeMode` as it is written: `"0666"`.
#[derive(Clone, Copy)]
pub(super) struct NodeMode(pub(super) u32);

/// `nodeOwner` as it is written.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct NodeOwner {
    /// User id inside the container.
    pub(super) uid: Option<u32>,
    /// Group id inside the container.
    pub(super) gid: Option<u32>,
}

impl<'de> Deserialize<'de> for NodeMode {
    /// Four digits, the first a 0: `420` may be meant as decimal (0644), and would be read as octal.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let is_octal =
            text.len() == 4 && text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
        let mode = u32::from_str_radix(&text, 8).ok().filter(|mode| is_octal && mode & !MOST == 0);
        mode.map(Self).ok_or_else(|| {
            de::Error::custom(format!(
                "`{text}` is no mode of a device node: expected 0000 to 0666 in octal, no execute bits"
            ))
        })
    }
}
