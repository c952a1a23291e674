//! The floor of a CNI ADD that hands out a VF by VFIO: what nobody who does its work can leave out, and nothing else.
//!
//! It is the system calls of these kinds that an ADD makes, in its order: opens and closes of VFIO's nodes, VFIO's
//! ioctls, and of each file that is to be whole and on disk a new one, its `fsync`, a `rename` and the `fsync` of the
//! folder. They were counted by `strace -f -e trace=openat,ioctl,fsync,rename,close` of one ADD of a VF by its group, behind
//! another plugin: two opens, eight ioctls, eight fsyncs and four renames. The scenario `figures` counts both by
//! strace each time that it runs, and fails where they differ.
//!
//! Nothing is verified, asked, parsed or mapped here, and no register is read.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use vfio_bindings::bindings::vfio::VFIO_TYPE1v2_IOMMU;

use crate::memory;

/// Bytes of each file: one block of a disk, and neither a claim nor an attachment has more than some.
const CONTENT: [u8; 512] = [b' '; 512];
/// Regions that are asked for: that of the doorbell, of the common and of the device configuration.
const REGIONS_ASKED: u32 = 3;

/// What an ADD works on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Floor {
    /// VFIO's container.
    pub container: PathBuf,
    /// The group's node.
    pub group: PathBuf,
    /// The device's name in the group.
    pub device: String,
    /// The region of its doorbell.
    pub region: u32,
    /// A folder on the disk that claims are on.
    pub lasting: PathBuf,
    /// A folder in what goes with the boot, where the rest is.
    pub passing: PathBuf,
}

impl Floor {
    /// From the words of a command line, in the order of the fields.
    pub fn parse(words: impl IntoIterator<Item = String>) -> Result<Self> {
        let mut words = words.into_iter();
        let mut word = |name: &str| words.next().with_context(|| format!("there is no {name}"));
        let floor = Self {
            container: word("container")?.into(),
            group: word("group")?.into(),
            device: word("device")?,
            region: word("region")?.parse().context("the region is no number")?,
            lasting: word("lasting folder")?.into(),
            passing: word("passing folder")?.into(),
        };
        match words.next() {
            None => Ok(floor),
            Some(more) => anyhow::bail!("`{more}` is one word too many"),
        }
    }

    /// Makes the system calls.
    pub fn run(&self) -> Result<()> {
        let claim = self.lasting.join("claim");
        replace(&claim)?;
        self.open_and_close().with_context(|| format!("open and close {}", self.device))?;
        replace(&claim)?;
        replace(&self.passing.join("attachment"))?;
        replace(&self.passing.join("calls"))
    }

    fn open_and_close(&self) -> Result<()> {
        let container = open(&self.container)?;
        let group = open(&self.group)?;
        memory::group_flags(&group)?;
        memory::set_container(&group, &container)?;
        // The header's constant is a small positive number.
        memory::set_iommu(&container, VFIO_TYPE1v2_IOMMU as i32)?;
        let device = memory::device(&group, &self.device)?;
        memory::device_info(&device)?;
        for _ in 0..REGIONS_ASKED {
            memory::region_info(&device, self.region)?;
        }
        // The device first: that is its reset.
        drop(device);
        drop(group);
        Ok(())
    }
}

/// A whole new file in the place of what is there, on disk with its name.
fn replace(file: &Path) -> Result<()> {
    let replaced = || {
        let new = file.with_extension("new");
        let mut whole = File::create(&new)?;
        whole.write_all(&CONTENT)?;
        whole.sync_all()?;
        fs::rename(&new, file)?;
        file.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    };
    replaced().with_context(|| format!("replace {}", file.display()))
}

fn open(node: &Path) -> Result<File> {
    let opened = OpenOptions::new().read(true).write(true).open(node);
    opened.with_context(|| format!("open {}", node.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: [&str; 6] = ["/dev/vfio/vfio", "/dev/vfio/7", "0000:01:00.1", "4", "/var/lib/a", "/run/a"];

    fn parse(words: &[&str]) -> Result<Floor> {
        Floor::parse(words.iter().map(ToString::to_string))
    }

    #[test]
    fn its_command_line_is_its_fields() {
        let floor = parse(&WORDS).unwrap();
        assert_eq!((floor.group, floor.region), (PathBuf::from("/dev/vfio/7"), 4));
        assert_eq!(parse(&WORDS[..4]).unwrap_err().to_string(), "there is no lasting folder");
        let more = [&WORDS[..], &["more"]].concat();
        assert_eq!(parse(&more).unwrap_err().to_string(), "`more` is one word too many");
        let mut wrong = WORDS;
        wrong[3] = "four";
        assert_eq!(parse(&wrong).unwrap_err().to_string(), "the region is no number");
    }

    #[test]
    fn what_it_replaces_is_whole_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            replace(&folder.path().join("claim")).unwrap();
        }
        assert_eq!(fs::read(folder.path().join("claim")).unwrap(), CONTENT);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_node_that_is_absent_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let absent = |name| folder.path().join(name);
        let floor = Floor {
            container: absent("vfio"),
            group: absent("7"),
            lasting: folder.path().to_owned(),
            passing: folder.path().to_owned(),
            ..parse(&WORDS).unwrap()
        };
        let error = format!("{:#}", floor.run().unwrap_err());
        let node = absent("vfio").display().to_string();
        assert!(
            error.starts_with(&format!("open and close 0000:01:00.1: open {node}: No such file")),
            "{error}"
        );
    }
}
