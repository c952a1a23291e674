//! The name of a link, as `dev_valid_name` of the kernel's `net/core/dev.c` takes it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Bytes of a name with its NUL (IFNAMSIZ).
const SIZE: usize = 16;

/// A name that the kernel takes for a link.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LinkName(String);

/// Why a text is none.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is no name of a link: 1 to 15 bytes without `/`, `:`, `%` and white space, not `.` or `..`")]
pub struct BadName(String);

impl LinkName {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LinkName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let fits = (1..SIZE).contains(&text.len()) && !matches!(text, "." | "..");
        if fits && text.bytes().all(stands) {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadName(text.to_owned()))
        }
    }
}

impl TryFrom<String> for LinkName {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        text.parse()
    }
}

impl From<LinkName> for String {
    fn from(name: LinkName) -> Self {
        name.0
    }
}

/// Whether a byte may stand in a name.
fn stands(byte: u8) -> bool {
    // The kernel's isspace is that of ISO 8859-1, byte by byte: 0xa0 is white space even inside a letter of UTF-8, and
    // so is the vertical tab. `%` it takes only in a pattern such as `eth%d`, to put a number there.
    !matches!(byte, b'/' | b':' | b'%' | b' ' | b'\t'..=b'\r' | 0xa0 | 0)
}

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) const NAMES: [&str; 7] =
        ["net1", "enp1s0f0v12", "...", "a-b_c.d@e", "fifteen-bytes-x", "ä", "last"];
    pub(crate) const NO_NAMES: [&str; 13] = [
        "",
        ".",
        "..",
        "a/b",
        "a:0",
        "a b",
        "a\tb",
        "a\u{b}b",
        "a\nb",
        "eth%d",
        "a\0b",
        "sixteen-bytes-xx",
        "à",
    ];

    #[test]
    fn what_the_kernel_takes_is_a_name() {
        for name in NAMES {
            assert_eq!(name.parse::<LinkName>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn what_the_kernel_does_not_take_is_none() {
        for name in NO_NAMES {
            assert_eq!(name.parse::<LinkName>(), Err(BadName(name.to_owned())), "{name:?}");
        }
    }
}
