//! What the operator has pods told of their devices, beside what the plugin knows of them.

use std::collections::BTreeMap;

use doorbell_common::subdevice::DeviceId;
use serde::{Deserialize, Deserializer, de};

/// The key of what is told of every device.
const ALL: &str = "*";

/// Texts by name: of all devices, and of some by their ids, which go before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AdditionalInfo {
    /// Of all devices.
    pub all: BTreeMap<String, String>,
    /// Of one.
    pub of: BTreeMap<DeviceId, BTreeMap<String, String>>,
}

impl AdditionalInfo {
    /// What is told of a device.
    #[must_use]
    pub fn about(&self, id: &DeviceId) -> BTreeMap<&str, &str> {
        let own = self.of.get(id).into_iter().flatten();
        self.all.iter().chain(own).map(|(name, text)| (name.as_str(), text.as_str())).collect()
    }

    /// As it is written: by `*` or an id.
    #[must_use]
    pub fn written(&self) -> BTreeMap<&str, &BTreeMap<String, String>> {
        let all = (!self.all.is_empty()).then_some((ALL, &self.all));
        all.into_iter().chain(self.of.iter().map(|(id, texts)| (id.as_str(), texts))).collect()
    }

    /// Adds what is told by a key.
    pub(super) fn add(&mut self, key: &str, texts: BTreeMap<String, String>) -> Result<(), String> {
        if key == ALL {
            self.all = texts;
            return Ok(());
        }
        let id = key.parse().map_err(|_| format!("`{key}` is no device: expected `*`, or an id"))?;
        self.of.insert(id, texts);
        Ok(())
    }
}

impl<'de> Deserialize<'de> for AdditionalInfo {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut info = Self::default();
        for (key, texts) in BTreeMap::<String, BTreeMap<String, String>>::deserialize(deserializer)? {
            info.add(&key, texts).map_err(de::Error::custom)?;
        }
        Ok(info)
    }
}
