//! The text of a network configuration, read as container runtimes read it. Pure; where its plugins stand in the text is
//! kept, so that everything else of it can stay as it is.
//!
//! Follows libcni (`libcni/conf.go`), by which containerd and CRI-O decide what is a configuration: a list has a name and
//! one or more plugins, each with a type; what stands twice counts as it stands last.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;
use serde_json::value::{RawValue, Value};

/// A configuration that a runtime loads.
#[derive(Debug)]
pub enum Network<'a> {
    /// Plugins one after another.
    List(Conflist<'a>),
    /// A list whose plugins are files in a folder of the network's name.
    Apart(String),
    /// One plugin, of this type: the form of before lists.
    Single(String),
}

/// A list and its plugins.
#[derive(Debug)]
pub struct Conflist<'a> {
    /// All of it.
    pub text: &'a str,
    /// `cniVersion`.
    pub version: Option<String>,
    /// `cniVersions`: a runtime of CNI 1.1.0 or later takes the newest of all that it knows itself.
    pub versions: Vec<String>,
    /// Never empty.
    pub plugins: Vec<Plugin>,
}

/// A plugin of a list.
#[derive(Debug)]
pub struct Plugin {
    /// Its type, which is its binary's name.
    pub kind: String,
    /// `keptBy`, which is no key of the specification's.
    pub kept_by: Option<String>,
    /// Where it stands in the text.
    pub at: Range<usize>,
}

type Keys<'a> = BTreeMap<String, &'a RawValue>;

impl<'a> Network<'a> {
    /// Reads a file that is called a list, or one that is not; `None` where it is no configuration.
    #[must_use]
    pub fn read(text: &'a str, is_list: bool) -> Option<Self> {
        let keys: Keys<'_> = serde_json::from_str(text).ok()?;
        if !is_list {
            return kind(&keys).map(Self::Single);
        }
        let name = value::<String>(&keys, "name")??;
        let version = value(&keys, "cniVersion")?;
        let versions = value(&keys, "cniVersions")?.unwrap_or_default();
        let Some(plugins) = keys.get("plugins") else {
            return (!only_inlined(&keys)).then_some(Self::Apart(name));
        };
        let plugins: Vec<&RawValue> = serde_json::from_str(plugins.get()).ok()?;
        let plugins: Vec<Plugin> =
            plugins.into_iter().map(|plugin| Plugin::read(text, plugin)).collect::<Option<_>>()?;
        (!plugins.is_empty()).then_some(Self::List(Conflist { text, version, versions, plugins }))
    }

    /// Types of the plugins that it names.
    pub fn kinds(&self) -> impl Iterator<Item = &str> {
        let (listed, single) = match self {
            Self::List(list) => (&list.plugins[..], None),
            Self::Single(kind) => (&[][..], Some(kind.as_str())),
            Self::Apart(_) => (&[][..], None),
        };
        listed.iter().map(|plugin| plugin.kind.as_str()).chain(single)
    }
}

impl Plugin {
    fn read(text: &str, plugin: &RawValue) -> Option<Self> {
        let keys: Keys<'_> = serde_json::from_str(plugin.get()).ok()?;
        let kept_by = value(&keys, "keptBy").flatten();
        // A raw value is borrowed of the text that it is read from.
        let start = plugin.get().as_ptr().addr().checked_sub(text.as_ptr().addr())?;
        Some(Self { kind: kind(&keys)?, kept_by, at: start..start + plugin.get().len() })
    }
}

/// `Some(None)` where the key is not there, `None` where it has another type of value.
fn value<T: for<'de> Deserialize<'de>>(keys: &Keys<'_>, key: &str) -> Option<Option<T>> {
    keys.get(key).map(|raw| serde_json::from_str(raw.get())).transpose().ok()
}

fn kind(keys: &Keys<'_>) -> Option<String> {
    value::<String>(keys, "type").flatten().filter(|kind| !kind.is_empty())
}

/// libcni takes the word for it as well.
fn only_inlined(keys: &Keys<'_>) -> bool {
    match value(keys, "loadOnlyInlinedPlugins").flatten() {
        Some(Value::Bool(only)) => only,
        Some(Value::String(word)) => word.eq_ignore_ascii_case("true"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use doorbell_common::fault::dice::Dice;

    use super::*;

    #[test]
    fn a_list_is_what_libcni_takes_for_one() {
        for (text, is_one) in [
            (r#"{"name":"n","plugins":[{"type":"ptp"}]}"#, true),
            (r#"{"name":"n","cniVersion":"9.9.9","plugins":[{"type":"ptp","type":"bridge"}]}"#, true),
            (r#"{"name":"n"}"#, true),
            (r#"{"name":"n","loadOnlyInlinedPlugins":"True"}"#, false),
            (r#"{"plugins":[{"type":"ptp"}]}"#, false),
            (r#"{"name":1,"plugins":[{"type":"ptp"}]}"#, false),
            (r#"{"name":"n","cniVersion":1,"plugins":[{"type":"ptp"}]}"#, false),
            (r#"{"name":"n","cniVersions":"1.0.0","plugins":[{"type":"ptp"}]}"#, false),
            (r#"{"name":"n","plugins":[]}"#, false),
            (r#"{"name":"n","plugins":null}"#, false),
            (r#"{"name":"n","plugins":[{"type":""}]}"#, false),
            (r#"{"name":"n","plugins":[{}]}"#, false),
            (r#"{"name":"n","plugins":[{"type":"ptp"}]"#, false),
            (r#"{"name":"n","type":"ptp"} {}"#, false),
            ("[]", false),
            ("", false),
        ] {
            assert_eq!(Network::read(text, true).is_some(), is_one, "{text}");
        }
    }

    #[test]
    fn a_file_that_is_called_no_list_is_one_plugin() {
        let text = r#"{"name":"n","type":"ptp","plugins":[{"type":"bridge"}]}"#;
        let Some(network @ Network::Single(_)) = Network::read(text, false) else { panic!("another") };
        assert_eq!(network.kinds().collect::<Vec<_>>(), ["ptp"]);
        assert!(Network::read(r#"{"name":"n","plugins":[{"type":"ptp"}]}"#, false).is_none());
    }

    #[test]
    fn plugins_are_found_where_they_stand() {
        let text = r#"{"plugins":[{"type":"former"}],"name":"é","plugins": [ {"type":"ptp"} , {"type":"b", "x": 1.0} ] }"#;
        let Some(Network::List(list)) = Network::read(text, true) else { panic!("no list") };
        let stand: Vec<&str> = list.plugins.iter().map(|plugin| &text[plugin.at.clone()]).collect();
        assert_eq!(stand, [r#"{"type":"ptp"}"#, r#"{"type":"b", "x": 1.0}"#]);
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_much(text: String, is_list: bool, seed: u64) {
            let _ = Network::read(&text, is_list);
            let list = br#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"ptp","mtu":1.50e3},{"type":"x"}]}"#;
            let _ = Network::read(&String::from_utf8_lossy(&Dice::of(seed).damage(list)), is_list);
        }
    }
}
