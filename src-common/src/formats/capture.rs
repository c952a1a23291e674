//! A captured host: what the product reads of a node, as one text file for a bug report, and back as a folder.
//!
//! ```text
//! doorbell capture 1
//! page 4096
//! file /sys/bus/pci/devices/0000:01:00.1/vendor "0x1af4\n"
//! bytes /sys/bus/pci/devices/0000:01:00.1/config ffffffff0601…
//! link /sys/bus/pci/devices/0000:01:00.1/driver ../../../../bus/pci/drivers/vfio-pci
//! folder /sys/bus/pci/devices/0000:01:00.1/vfio-dev vfio0
//! there /dev/vfio/7
//! ```
//! Lines are sorted by path; text is a JSON string, everything else hex. Lines that start with `#` are remarks.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};

use crate::host::Entry;

const HEAD: &str = "doorbell capture 1";

/// A captured host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capture {
    /// Bytes of a page there, a power of two.
    pub page: u64,
    /// What was read, by the path on that host.
    pub entries: BTreeMap<PathBuf, Entry>,
}

/// Why a text is no capture, or can't be laid out.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The first line says something else.
    #[error("no capture: the first line is not `{HEAD}`")]
    Head,
    /// The page size is missing, or none.
    #[error("no capture: the second line is not `page <bytes>`")]
    Page,
    /// A line is none of the format's.
    #[error("line {0} is no line of a capture")]
    Line(usize),
    /// A path that a capture can't hold: it could not be told from its content, or would lie elsewhere.
    #[error("a capture can't hold the path {0:?}")]
    Path(PathBuf),
    /// The tree can't be written.
    #[error("lay out {}", path.display())]
    Write {
        /// The path on the captured host.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Capture {
    /// As text.
    pub fn document(&self) -> Result<String, CaptureError> {
        let mut text = format!("{HEAD}\npage {}\n", self.page);
        for (path, entry) in &self.entries {
            let plain = path.to_str().filter(|path| is_plain(path));
            let plain = plain.ok_or_else(|| CaptureError::Path(path.clone()))?;
            let line = match entry {
                Entry::File(bytes) => match std::str::from_utf8(bytes) {
                    Ok(content) => format!("file {plain} {}", serde_json::Value::from(content)),
                    Err(_) => format!("bytes {plain} {}", hex(bytes)),
                },
                Entry::Link(target) => {
                    let target = target.to_str().filter(|target| !target.contains(['\n', '\r']));
                    let target = target.ok_or_else(|| CaptureError::Path(path.clone()))?;
                    format!("link {plain} {target}")
                }
                Entry::Folder(names) if names.iter().all(|name| is_name(name)) => {
                    format!("folder {plain} {}", names.join(" "))
                }
                Entry::Folder(_) => return Err(CaptureError::Path(path.clone())),
                Entry::There => format!("there {plain}"),
            };
            // Writing to a string does not fail.
            let _ = writeln!(text, "{}", line.trim_end());
        }
        Ok(text)
    }

    /// Parses a text.
    pub fn parse(text: &str) -> Result<Self, CaptureError> {
        let mut lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with('#'));
        if lines.next().is_none_or(|(_, line)| line != HEAD) {
            return Err(CaptureError::Head);
        }
        let page = lines.next().and_then(|(_, line)| line.strip_prefix("page ")?.parse().ok());
        let page = page.filter(|page: &u64| page.is_power_of_two()).ok_or(CaptureError::Page)?;
        let mut entries = BTreeMap::new();
        for (index, line) in lines {
            let (path, entry) = parse_line(line).ok_or(CaptureError::Line(index + 1))?;
            entries.insert(PathBuf::from(path), entry);
        }
        Ok(Self { page, entries })
    }

    /// Lays the tree out below `root`, an empty folder: every folder first, then what is in them.
    pub fn lay_out(&self, root: &Path) -> Result<(), CaptureError> {
        let at = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
        let wrote = |path: &Path, outcome: io::Result<()>| {
            outcome.map_err(|source| CaptureError::Write { path: path.to_owned(), source })
        };
        for (path, entry) in &self.entries {
            let folder = if matches!(entry, Entry::Folder(_)) { Some(path.as_path()) } else { path.parent() };
            if let Some(folder) = folder {
                wrote(path, fs::create_dir_all(at(folder)))?;
            }
        }
        for (path, entry) in &self.entries {
            let target = at(path);
            match entry {
                Entry::File(content) => wrote(path, fs::write(&target, content))?,
                Entry::Link(to) => wrote(path, symlink(to, &target))?,
                Entry::There if !target.exists() => wrote(path, fs::write(&target, b""))?,
                Entry::There | Entry::Folder(_) => {}
            }
        }
        // What is only known by name stands as an empty file, unless more is known of it.
        for (path, entry) in &self.entries {
            let Entry::Folder(names) = entry else { continue };
            for name in names.iter().map(|name| at(&path.join(name))) {
                if fs::symlink_metadata(&name).is_err() {
                    wrote(path, fs::write(name, b""))?;
                }
            }
        }
        Ok(())
    }
}

fn parse_line(line: &str) -> Option<(&str, Entry)> {
    let (kind, rest) = line.split_once(' ')?;
    let (path, content) = rest.split_once(' ').unwrap_or((rest, ""));
    let entry = match kind {
        "file" => Entry::File(serde_json::from_str::<String>(content).ok()?.into_bytes()),
        "bytes" => Entry::File(unhex(content)?),
        "link" if !content.is_empty() => Entry::Link(content.into()),
        "folder" => {
            let names: Vec<String> = content.split_whitespace().map(str::to_owned).collect();
            names.iter().all(|name| is_name(name)).then_some(Entry::Folder(names))?
        }
        "there" if content.is_empty() => Entry::There,
        _ => return None,
    };
    is_plain(path).then_some((path, entry))
}

/// Absolute, without a way up, without what separates the parts of a line.
fn is_plain(path: &str) -> bool {
    let components = Path::new(path).components();
    path.starts_with('/')
        && !path.contains(char::is_whitespace)
        && components.skip(1).all(|component| matches!(component, Component::Normal(_)))
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name != "."
        && name != ".."
        && !name.contains('/')
        && !name.contains(char::is_whitespace)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|digit| digit.to_digit(16)?.try_into().ok()).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Host;
    use proptest::prelude::*;

    fn capture(entries: impl IntoIterator<Item = (&'static str, Entry)>) -> Capture {
        let entries = entries.into_iter().map(|(path, entry)| (path.into(), entry)).collect();
        Capture { page: 4096, entries }
    }

    #[test]
    fn a_captured_tree_answers_as_the_host_did() {
        let original = tempfile::tempdir().unwrap();
        let host = Host::at(original.path());
        host.make_folder("/sys/device/empty").unwrap();
        host.replace("/sys/device/vendor", b"0x1af4\n").unwrap();
        host.replace("/sys/device/config", &[0xff, 0x00, 0x80]).unwrap();
        host.replace("/sys/device/ignored", b"").unwrap();
        symlink("../drivers/vfio-pci", original.path().join("sys/device/driver")).unwrap();
        let ask = |host: &Host| {
            let names = host.list("/sys/device").unwrap();
            let (vendor, config) = (host.read_text("/sys/device/vendor"), host.read("/sys/device/config"));
            let (driver, empty) = (host.link_name("/sys/device/driver"), host.list("/sys/device/empty"));
            let there = (host.exists("/sys/device/vendor"), host.exists("/sys/none"));
            (names, vendor.unwrap(), config.unwrap(), driver.unwrap(), empty.unwrap(), there)
        };
        let recording = host.recording();
        let answers = ask(&recording);
        let text = Capture { page: 4096, entries: recording.recorded() }.document().unwrap();

        let copy = tempfile::tempdir().unwrap();
        Capture::parse(&text).unwrap().lay_out(copy.path()).unwrap();
        assert_eq!(ask(&Host::at(copy.path())), answers, "{text}");
    }

    #[test]
    fn a_line_that_is_none_is_named() {
        for line in [
            "file /a",
            "bytes /a 0",
            "bytes /a zz",
            "link /a",
            "there /a b",
            "folder /a ..",
            "x /a",
            "",
            "file a \"\"",
            "there /a/../b",
        ] {
            let error = Capture::parse(&format!("{HEAD}\npage 4096\n# remark\n{line}\n")).unwrap_err();
            assert!(matches!(error, CaptureError::Line(4)), "{line}: {error}");
        }
        assert!(matches!(Capture::parse("hello"), Err(CaptureError::Head)));
        assert!(matches!(Capture::parse(&format!("{HEAD}\npage 5\n")), Err(CaptureError::Page)));
    }

    #[test]
    fn a_path_that_could_not_be_read_back_is_not_written() {
        for path in ["/a b", "relative", "/a/../b"] {
            assert!(
                matches!(capture([(path, Entry::There)]).document(), Err(CaptureError::Path(_))),
                "{path}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(content in proptest::collection::vec(any::<u8>(), 0..64), text in ".{0,40}") {
            let capture = capture([("/a", Entry::File(content)), ("/b", Entry::File(text.into_bytes()))]);
            prop_assert_eq!(Capture::parse(&capture.document().unwrap()).unwrap(), capture);
        }

        #[test]
        fn no_text_breaks_the_parser(text in ".{0,200}") {
            let _ = Capture::parse(&format!("{HEAD}\npage 4096\n{text}"));
        }
    }
}
