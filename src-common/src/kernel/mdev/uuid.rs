//! The name of a mediated device: a UUID, as the kernel writes it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Hex digits between the dashes (RFC 9562, 4).
const PARTS: [usize; 5] = [8, 4, 4, 4, 12];

/// A UUID in the one form that sysfs has it in (`%pUl`), since it names files and devices too: lower-case hex.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Uuid(String);

/// Why a string is no UUID.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is no UUID: expected lower-case hex, such as 83b8f4f2-509f-382f-3c1e-e6bfe0fa1001")]
pub struct BadUuid(String);

impl Uuid {
    /// The UUID as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Uuid {
    type Err = BadUuid;

    fn from_str(text: &str) -> Result<Self, BadUuid> {
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let parts: Vec<&str> = text.split('-').collect();
        let good = parts.iter().map(|part| part.len()).eq(PARTS)
            && parts.iter().all(|part| part.bytes().all(is_hex));
        if good { Ok(Self(text.to_owned())) } else { Err(BadUuid(text.to_owned())) }
    }
}

impl TryFrom<String> for Uuid {
    type Error = BadUuid;

    fn try_from(text: String) -> Result<Self, BadUuid> {
        text.parse()
    }
}

impl From<Uuid> for String {
    fn from(uuid: Uuid) -> Self {
        uuid.0
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_uuid_has_one_spelling() {
        let good = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001";
        assert_eq!(good.parse::<Uuid>().unwrap().as_str(), good);
        for bad in [
            "",
            "83B8f4f2-509f-382f-3c1e-e6bfe0fa1001",
            "83b8f4f2509f382f3c1ee6bfe0fa1001",
            "{83b8f4f2-509f-382f-3c1e-e6bfe0fa1001}",
            "83b8f4f2-509f-382f-3c1e-e6bfe0fa100",
            "83b8f4f2-509f-382f-3c1e-e6bfe0fa100g",
            "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001\n",
            "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001-",
        ] {
            assert_eq!(bad.parse::<Uuid>(), Err(BadUuid(bad.to_owned())), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_it(text in ".{0,50}") {
            let _ = text.parse::<Uuid>();
        }
    }
}
