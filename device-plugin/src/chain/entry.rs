//! Our entry in a conflist: put in, and taken out. Pure, on the text: all else of it stays byte for byte.

use doorbell_common::formats::cni::VERSIONS;

use super::conflist::{Conflist, Network, Plugin};
use crate::install::NAME;

/// Says whose entry it is: one without it was written by a person, and is theirs.
const KEPT_BY: &str = "doorbell-device-plugin keep-cni";
/// Multus, and what stands for it where it runs as a daemon.
const MULTUS: [&str; 2] = ["multus", "multus-shim"];

/// Why nothing is put in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Multus is the pod network's first.
    #[error("it is of Multus, by which a pod asks for a device with a NetworkAttachmentDefinition")]
    Multus,
    /// There is no list to be put in.
    #[error("it is of one plugin, {0}, and no list: nothing can be chained after that")]
    Single(String),
    /// The list is elsewhere.
    #[error("its plugins are files of their own, in a folder {0}")]
    Apart(String),
    /// What is put in would be asked in a version that it may not speak.
    #[error("its cniVersion is {0}, and {spoken} are spoken", spoken = VERSIONS.join(", "))]
    Version(String),
    /// Likewise.
    #[error("it has no cniVersion")]
    NoVersion,
    /// What would be replaced is the link.
    #[error("it is a symbolic link")]
    Link,
}

/// What is to become of a configuration that pods pass.
#[derive(Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Our entry is there.
    AsItIs,
    /// A person has chained the plugin.
    ByHand,
    /// This text, which has the entry.
    Text(String),
}

/// Puts the entry at the end, where neither it nor one by hand is there.
pub fn put_in(network: &Network<'_>) -> Result<Wanted, Refusal> {
    if network.kinds().any(|kind| MULTUS.contains(&kind)) {
        return Err(Refusal::Multus);
    }
    let list = match network {
        Network::List(list) => list,
        Network::Single(kind) => return Err(Refusal::Single(kind.clone())),
        Network::Apart(name) => return Err(Refusal::Apart(name.clone())),
    };
    if list.plugins.iter().any(Plugin::is_by_hand) {
        return Ok(Wanted::ByHand);
    }
    let version = list.version.as_ref().ok_or(Refusal::NoVersion)?;
    let is_spoken = |version: &&String| VERSIONS.contains(&version.as_str());
    if let Some(version) = [version].into_iter().chain(&list.versions).find(|version| !is_spoken(version)) {
        return Err(Refusal::Version(version.clone()));
    }
    // Anywhere is good: who chains a plugin of theirs after it is not fought for the last place.
    if list.plugins.iter().any(Plugin::is_ours) {
        return Ok(Wanted::AsItIs);
    }
    Ok(appended(list).map_or(Wanted::AsItIs, Wanted::Text))
}

/// The text without our entry; `None` where it has none.
#[must_use]
pub fn taken_out(list: &Conflist<'_>) -> Option<String> {
    let Conflist { text, plugins, .. } = list;
    let stays = plugins.iter().position(|plugin| !plugin.is_ours());
    let mut kept = String::with_capacity(text.len());
    let mut from = 0;
    for (index, plugin) in plugins.iter().enumerate().filter(|(_, plugin)| plugin.is_ours()) {
        // With the comma before it, or, as long as none stays before it, that behind it.
        let (start, end) = match (index.checked_sub(1), plugins.get(index + 1)) {
            (Some(before), _) if stays.is_some_and(|stays| stays < index) => {
                (plugins.get(before)?.at.end, plugin.at.end)
            }
            (_, Some(behind)) => (plugin.at.start, behind.at.start),
            _ => (plugin.at.start, plugin.at.end),
        };
        kept.push_str(text.get(from..start)?);
        from = end;
    }
    kept.push_str(text.get(from..)?);
    (from > 0).then_some(kept)
}

impl Plugin {
    fn is_ours(&self) -> bool {
        self.kind == NAME && self.kept_by.as_deref() == Some(KEPT_BY)
    }

    fn is_by_hand(&self) -> bool {
        self.kind == NAME && !self.is_ours()
    }
}

/// The entry after the last plugin, indented as that is.
fn appended(list: &Conflist<'_>) -> Option<String> {
    let last = &list.plugins.last()?.at;
    let (before, behind) = (list.text.get(..last.end)?, list.text.get(last.end..)?);
    let space = list.text.get(..last.start)?;
    let space = &space[space.trim_end().len()..];
    Some(format!("{before},{space}{{\"type\": \"{NAME}\", \"keptBy\": \"{KEPT_BY}\"}}{behind}"))
}

#[cfg(test)]
mod tests {
    use doorbell_common::fault::dice::Dice;
    use proptest::prelude::{Strategy, any, prop};
    use serde_json::{Value, json};

    use super::*;

    const OURS: &str = r#"{"type": "doorbell", "keptBy": "doorbell-device-plugin keep-cni"}"#;

    fn list(plugins: &str) -> String {
        format!(
            "{{\"cniVersion\": \"1.0.0\", \"name\": \"pods\", \"mtu\": 1.50e3, \"plugins\": {plugins} }}\n"
        )
    }

    fn put(text: &str) -> Result<Wanted, Refusal> {
        put_in(&Network::read(text, true).unwrap())
    }

    fn out(text: &str) -> Option<String> {
        let Some(Network::List(list)) = Network::read(text, true) else { return None };
        taken_out(&list)
    }

    #[test]
    fn it_stands_at_the_end_indented_as_its_neighbour() {
        for (before, after) in [
            (r#"[{"type":"ptp"}]"#, format!(r#"[{{"type":"ptp"}},{OURS}]"#)),
            (
                "[\n    {\"type\": \"ptp\"},\n    {\"type\": \"portmap\"}\n  ]",
                format!("[\n    {{\"type\": \"ptp\"}},\n    {{\"type\": \"portmap\"}},\n    {OURS}\n  ]"),
            ),
        ] {
            let (before, after) = (list(before), list(&after));
            assert_eq!(put(&before), Ok(Wanted::Text(after.clone())));
            assert_eq!(put(&after), Ok(Wanted::AsItIs));
            assert_eq!(out(&after), Some(before.clone()));
            assert_eq!(out(&before), None);
        }
    }

    #[test]
    fn wherever_it_stands_it_is_left_and_taken_out_alone() {
        let (a, b) = (r#"{"type":"a"}"#, r#"{"type":"b"}"#);
        for (with, without) in [
            (format!("[{OURS}, {a}]"), format!("[{a}]")),
            (format!("[{a}, {OURS}, {b}]"), format!("[{a}, {b}]")),
            (format!("[{OURS}, {OURS}, {a}, {OURS}, {b}, {OURS}]"), format!("[{a}, {b}]")),
            (format!("[{OURS}, {OURS}]"), "[]".to_owned()),
        ] {
            assert_eq!(put(&list(&with)), Ok(Wanted::AsItIs), "{with}");
            assert_eq!(out(&list(&with)), Some(list(&without)), "{with}");
        }
    }

    #[test]
    fn one_by_hand_is_neither_doubled_nor_taken_out() {
        for by_hand in [r#"{"type":"doorbell"}"#, r#"{"type":"doorbell","keptBy":"me"}"#] {
            let text = list(&format!(r#"[{{"type":"ptp"}}, {by_hand}]"#));
            assert_eq!(put(&text), Ok(Wanted::ByHand));
            assert_eq!(out(&text), None);
            let doubled = list(&format!(r#"[{{"type":"ptp"}}, {OURS}, {by_hand}]"#));
            assert_eq!(put(&doubled), Ok(Wanted::ByHand));
            assert_eq!(out(&doubled), Some(text));
        }
    }

    #[test]
    fn what_can_not_be_chained_is_refused_with_its_reason() {
        let refused = |text: &str, is_list| put_in(&Network::read(text, is_list).unwrap()).unwrap_err();
        for multus in MULTUS {
            let text = format!(r#"{{"cniVersion":"1.0.0","name":"m","type":"{multus}"}}"#);
            assert_eq!(refused(&text, false), Refusal::Multus);
            assert_eq!(refused(&list(&format!(r#"[{{"type":"{multus}"}}]"#)), true), Refusal::Multus);
        }
        assert_eq!(refused(r#"{"name":"n","type":"ptp"}"#, false), Refusal::Single("ptp".to_owned()));
        assert_eq!(refused(r#"{"name":"n"}"#, true), Refusal::Apart("n".to_owned()));
        let versions = |keys| refused(&format!(r#"{{"name":"n",{keys}"plugins":[{{"type":"p"}}]}}"#), true);
        assert_eq!(versions(""), Refusal::NoVersion);
        assert_eq!(versions(r#""cniVersions":["1.1.0"],"#), Refusal::NoVersion);
        assert_eq!(versions(r#""cniVersion":"0.2.0","#), Refusal::Version("0.2.0".to_owned()));
        assert_eq!(
            versions(r#""cniVersion":"1.0.0","cniVersions":["1.1.0","1.2.0"],"#).to_string(),
            "its cniVersion is 1.2.0, and 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0 are spoken"
        );
    }

    /// A conflist as somebody may write it: keys of any kind, in any layout.
    fn conflists() -> impl Strategy<Value = String> {
        let plugin = (any::<String>(), any::<f64>(), any::<String>())
            .prop_map(|(kind, number, text)| json!({ "type": format!("a{kind}"), "n": number, text: [] }));
        (prop::collection::vec(plugin, 1..5), any::<bool>(), any::<String>()).prop_map(
            |(plugins, wide, key)| {
                let list =
                    json!({ format!("x{key}"): key, "name": key, "cniVersion": "1.0.0", "plugins": plugins });
                if wide { serde_json::to_string_pretty(&list).unwrap() } else { list.to_string() }
            },
        )
    }

    proptest::proptest! {
        #[test]
        fn what_is_put_in_and_taken_out_was_never_there(text in conflists()) {
            let Ok(Wanted::Text(with)) = put(&text) else { panic!("{text} has no room") };
            proptest::prop_assert_eq!(put(&with), Ok(Wanted::AsItIs));
            let (mut document, before): (Value, Value) =
                (serde_json::from_str(&with).unwrap(), serde_json::from_str(&text).unwrap());
            let entry = document["plugins"].as_array_mut().unwrap().pop().unwrap();
            proptest::prop_assert_eq!(entry, serde_json::from_str::<Value>(OURS).unwrap());
            proptest::prop_assert_eq!(document, before);
            proptest::prop_assert_eq!(out(&with), Some(text));
        }

        #[test]
        fn a_damaged_list_stays_one_or_is_none(seed: u64) {
            let whole = list(&format!(r#"[ {{"type":"ptp","mtu":1500}}, {OURS} , {{"type":"b"}} ]"#));
            let text = String::from_utf8_lossy(&Dice::of(seed).damage(whole.as_bytes())).into_owned();
            let Some(network) = Network::read(&text, true) else { return Ok(()) };
            if let Ok(Wanted::Text(with)) = put_in(&network) {
                proptest::prop_assert_eq!(put(&with), Ok(Wanted::AsItIs));
            }
            if let Some(without) = out(&text) {
                proptest::prop_assert_eq!(out(&without), None);
                proptest::prop_assert!(serde_json::from_str::<Value>(&without).is_ok());
            }
        }
    }
}
