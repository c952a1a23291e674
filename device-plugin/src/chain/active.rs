//! The folder of network configurations, and which of them is active: the one that the node's pods pass.
//!
//! containerd (go-cni, `opts.go`) and CRI-O (ocicni) take files whose names end in `.conf`, `.conflist` or `.json`, hidden
//! ones too, in the order of their bytes, and the first for pods. At one that is no configuration containerd stops, and has
//! no network; CRI-O goes on to the next. Here it is gone on: containerd loads nothing then, whatever is in the others.

use doorbell_common::host::{Host, Result};

use super::conflist::Network;

/// A file of the folder.
#[derive(Debug)]
pub struct File {
    /// Its path on the host.
    pub path: String,
    /// All of it.
    pub text: String,
    /// Whether it is a symbolic link, which a write would make a file of.
    pub is_link: bool,
    ending: Ending,
}

/// How a runtime reads a file, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    List,
    Single,
    /// Not at all. What main plugins move out of the way gets such a name, and may get its own again.
    Other,
}

impl File {
    /// What a runtime loads of it.
    #[must_use]
    pub fn network(&self) -> Option<Network<'_>> {
        match self.ending {
            Ending::List => Network::read(&self.text, true),
            Ending::Single => Network::read(&self.text, false),
            Ending::Other => None,
        }
    }

    /// What it would be if it were called a list.
    #[must_use]
    pub fn as_list(&self) -> Option<Network<'_>> {
        Network::read(&self.text, true)
    }
}

/// Every file of a folder that is text, in order; none where there is no folder.
pub fn files(host: &Host, folder: &str) -> Result<Vec<File>> {
    let mut files = Vec::new();
    for name in host.list(folder)? {
        let (path, ending) = (format!("{folder}/{name}"), Ending::of(&name));
        if !host.is_file(&path) {
            continue;
        }
        match host.read_if_any(&path) {
            Ok(bytes) => {
                let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
                files.extend(text.map(|text| File { is_link: host.is_link(&path), path, text, ending }));
            }
            // What nobody loads need not be read; without one that is loaded the next would be taken for active.
            Err(_) if ending == Ending::Other => {}
            Err(error) => return Err(error),
        }
    }
    Ok(files)
}

/// The active one of a folder's files, with what is in it.
pub fn active<'a>(host: &Host, folder: &str, files: &'a [File]) -> Result<Option<(&'a File, Network<'a>)>> {
    for file in files {
        let Some(network) = file.network() else { continue };
        let is_empty = match &network {
            Network::Apart(name) => {
                !host.list(format!("{folder}/{name}"))?.iter().any(|plugin| plugin.ends_with(".conf"))
            }
            _ => false,
        };
        if !is_empty {
            return Ok(Some((file, network)));
        }
    }
    Ok(None)
}

impl Ending {
    /// As Go has it, by which `.conf` is a name with an ending and nothing before it.
    fn of(name: &str) -> Self {
        match name.rsplit_once('.').map(|(_, ending)| ending) {
            Some("conflist") => Self::List,
            Some("conf" | "json") => Self::Single,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOLDER: &str = "/etc/cni/net.d";
    const LIST: &str = r#"{"name":"n","plugins":[{"type":"ptp"}]}"#;
    const SINGLE: &str = r#"{"name":"n","type":"ptp"}"#;
    const APART: &str = r#"{"name":"apart"}"#;

    /// Name of the active one of these files.
    fn first(files_there: &[(&str, &str)]) -> Option<String> {
        let root = tempfile::tempdir().unwrap();
        let host = Host::at(root.path());
        for (name, text) in files_there {
            host.keep_as(format!("{FOLDER}/{name}"), text.as_bytes()).unwrap();
        }
        let files = files(&host, FOLDER).unwrap();
        let (file, _) = active(&host, FOLDER, &files).unwrap()?;
        Some(file.path.strip_prefix(FOLDER).unwrap().to_owned())
    }

    #[test]
    fn the_first_that_is_a_configuration_is_active() {
        for (files, active) in [
            (
                &[("20-b.conflist", LIST), ("10-a.conf", SINGLE), ("00-notes.txt", LIST)][..],
                Some("/10-a.conf"),
            ),
            (&[("9.json", SINGLE), ("10.conflist", LIST)], Some("/10.conflist")),
            (&[("a.conflist", LIST), (".hidden.conflist", LIST)], Some("/.hidden.conflist")),
            (&[("a.conflist", LIST), (".conf", SINGLE)], Some("/.conf")),
            (&[("a.conflist", "{"), ("b.conflist", LIST)], Some("/b.conflist")),
            (&[("a.conflist", SINGLE), ("b.conf", LIST)], None),
            (&[("a.conflist.cilium_bak", LIST), ("a.conflist.doorbell-new", LIST)], None),
            (&[("a.conflist/x", LIST), ("b.conflist", LIST)], Some("/b.conflist")),
            (&[("a.conflist", APART), ("b.conflist", LIST)], Some("/b.conflist")),
            (&[("a.conflist", APART), ("apart/x.conf", SINGLE), ("b.conflist", LIST)], Some("/a.conflist")),
            (&[], None),
        ] {
            assert_eq!(first(files).as_deref(), active, "{files:?}");
        }
    }
}
