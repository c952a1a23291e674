//! What strace has seen of a program with one thread: its system calls, with when each began and how long it took.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Folders that files are made whole in, by what an `fsync` there costs: a disk, and memory.
const DISK: &str = "/var/";
const MEMORY: &str = "/run/";
const VFIO: &str = "/dev/vfio/";
const VFIO_DEVICE: &str = "anon_inode:[vfio-device]";

/// All that the floor is made of.
pub(super) const OF_FLOOR: &str = "openat,ioctl,fsync,rename,close";
/// Few calls, as each that strace stops at takes time, and yet some in every step.
pub(super) const MARKS: &str = "execve,connect,statfs,mkdir,ioctl,pread64,exit_group";

/// The words before a program's own: strace, that stops it at these calls alone and writes to a file.
pub(super) fn command<'a>(calls: &'a str, file: &'a str) -> Vec<&'a str> {
    vec!["strace", "-f", "--seccomp-bpf", "-ttt", "-T", "-y", "-e", calls, "-o", file]
}

/// A system call.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    /// When it began, in seconds of the clock.
    pub(super) at: f64,
    /// How long it took, in seconds; 0 for the one that does not come back.
    pub(super) took: f64,
    name: String,
    /// With `-y`, each file descriptor has its path behind it, in `<>`.
    arguments: String,
}

impl Call {
    /// Whether it is this one.
    pub(super) fn is(&self, name: &str) -> bool {
        self.name == name
    }

    /// Whether it is this one, on a path that begins so.
    pub(super) fn is_on(&self, name: &str, start: &str) -> bool {
        self.is(name) && self.quoted().is_some_and(|path| path.starts_with(start))
    }

    /// Whether it is this ioctl.
    pub(super) fn asks(&self, request: &str) -> bool {
        self.is("ioctl") && self.request() == request
    }

    /// What the floor of an ADD counts it as, if as anything.
    pub(super) fn counted(&self) -> Option<String> {
        match self.name.as_str() {
            "openat" if self.is_on("openat", VFIO) => Some("openat of VFIO".to_owned()),
            "ioctl" if self.request().starts_with("VFIO_") => Some(self.request().to_owned()),
            "fsync" if self.descriptor().starts_with(DISK) => Some("fsync on disk".to_owned()),
            "fsync" if self.descriptor().starts_with(MEMORY) => Some("fsync in memory".to_owned()),
            "fsync" => Some("fsync elsewhere".to_owned()),
            "rename" => Some("rename".to_owned()),
            "close" if [VFIO, VFIO_DEVICE].iter().any(|of| self.descriptor().starts_with(of)) => {
                Some("close of VFIO".to_owned())
            }
            _ => None,
        }
    }

    /// The first text in quotes.
    fn quoted(&self) -> Option<&str> {
        self.arguments.split('"').nth(1)
    }

    /// The path of the first file descriptor.
    fn descriptor(&self) -> &str {
        let path = self.arguments.split_once('<').map_or("", |(_, path)| path);
        // Of a device's file the path has one of these itself.
        path.split(['>', ',']).next().unwrap_or_default()
    }

    fn request(&self) -> &str {
        self.arguments.split(',').nth(1).unwrap_or_default().trim()
    }
}

/// The calls in a file of strace's.
pub(super) fn read(file: &Path) -> Result<Vec<Call>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    parse(&text).with_context(|| format!("read {}", file.display()))
}

/// How often each call was made that the floor counts.
pub(super) fn count(calls: &[Call]) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for call in calls.iter().filter_map(Call::counted) {
        *counts.entry(call).or_default() += 1;
    }
    counts
}

fn parse(text: &str) -> Result<Vec<Call>> {
    let lines =
        text.lines().map(|line| parse_line(line).with_context(|| format!("a line of strace: {line}")));
    lines.filter_map(Result::transpose).collect()
}

/// `123   1700000000.000001 openat(-100, "/dev/vfio/7", O_RDWR|O_CLOEXEC) = 5</dev/vfio/7> <0.000123>`; nothing, of a line
/// that tells of a signal or the end.
fn parse_line(line: &str) -> Result<Option<Call>> {
    // The process' number is padded.
    let (_, rest) = line.trim_start().split_once(' ').context("it is one word")?;
    let (at, call) = rest.trim_start().split_once(' ').context("it has two words only")?;
    let at = at.parse().context("its second word is no time")?;
    if call.starts_with("+++") || call.starts_with("---") {
        return Ok(None);
    }
    if call.contains("<unfinished ...>") || call.starts_with("<...") {
        bail!("the program has several threads");
    }
    let (name, rest) = call.split_once('(').context("there is no call")?;
    let (arguments, result) = rest.rsplit_once(" = ").context("there is no result")?;
    let took = result.rsplit_once('<').and_then(|(_, took)| took.strip_suffix('>')?.parse().ok());
    let arguments = arguments.trim_end().strip_suffix(')').context("its arguments have no end")?;
    Ok(Some(Call {
        at,
        took: took.unwrap_or_default(),
        name: name.to_owned(),
        arguments: arguments.to_owned(),
    }))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What strace wrote in the testbed of an ADD, of the calls that the floor has, and of those that are marks.
    const COUNTED: &str = include_str!("counted.strace");
    pub(in crate::figures) const MARKED: &str = include_str!("marked.strace");

    pub(in crate::figures) fn calls(text: &str) -> Vec<Call> {
        parse(text).unwrap()
    }

    #[test]
    fn the_calls_of_an_add_are_counted() {
        let counts = count(&calls(COUNTED));
        let expected = [
            ("VFIO_DEVICE_GET_INFO", 1),
            ("VFIO_DEVICE_GET_REGION_INFO", 3),
            ("VFIO_GROUP_GET_DEVICE_FD", 1),
            ("VFIO_GROUP_GET_STATUS", 1),
            ("VFIO_GROUP_SET_CONTAINER", 1),
            ("VFIO_SET_IOMMU", 1),
            ("close of VFIO", 3),
            ("fsync in memory", 4),
            ("fsync on disk", 4),
            ("openat of VFIO", 2),
            ("rename", 4),
        ];
        assert_eq!(counts, expected.map(|(call, count)| (call.to_owned(), count)).into());
    }

    #[test]
    fn a_call_has_its_time_and_its_file() {
        let line = r#"77 1700000000.250000 close(5<anon_inode:[vfio-device]>) = 0 <0.110000>"#;
        let call = parse_line(line).unwrap().unwrap();
        assert_eq!((call.at, call.took), (1_700_000_000.25, 0.11));
        assert_eq!(call.counted().as_deref(), Some("close of VFIO"));
        let line = r#"77 1700000000.2 fsync(5</var/lib/doorbell/claims>)   = 0 <0.001>"#;
        assert_eq!(parse_line(line).unwrap().unwrap().counted().as_deref(), Some("fsync on disk"));
        assert_eq!(parse_line("77 1700000000.3 +++ exited with 0 +++").unwrap(), None);
        let left = parse_line("77 1700000000.3 exit_group(0)           = ?").unwrap().unwrap();
        assert_eq!((left.took, left.is("exit_group")), (0.0, true));
    }

    #[test]
    fn what_is_no_line_of_one_thread_is_refused() {
        for (line, error) in [
            ("77", "it is one word"),
            ("77 1.5", "it has two words only"),
            ("77 now close(5) = 0", "its second word is no time"),
            ("77 1.5 close(5 <unfinished ...>", "the program has several threads"),
            ("77 1.5 <... close resumed>) = 0", "the program has several threads"),
            ("77 1.5 close(5", "there is no result"),
        ] {
            assert_eq!(parse_line(line).unwrap_err().to_string(), error, "{line}");
        }
    }
}
