//! Finds and reads the descriptor of the device that this container was given.
//!
//! Takes what a consumer needs and passes over the rest, into types of its own: only the names of files and versions
//! are shared with what wrote it.

use std::fs;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use doorbell_common::doorbell::Granularity;
use doorbell_common::formats::descriptor::{API_VERSION, ATTACHMENT_FILE, DEVICE_FILE};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::report::By;

/// A device with what is known of its attachment.
#[derive(Debug)]
pub(crate) struct Descriptor {
    /// `device.json`.
    pub(crate) device: Device,
    /// `attachment.json`, where the CNI wrote one.
    pub(crate) attachment: Option<Attachment>,
}

/// Of `device.json`, what it takes to drive the device.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Device {
    api_version: String,
    /// Its id.
    pub(crate) id: String,
    /// How it is driven.
    pub(crate) access: Access,
    nodes: Option<Nodes>,
    pci_address: Option<String>,
    mdev: Option<String>,
    /// Virtio device type (virtio 1.3, section 5), where it is one.
    pub(crate) virtio_type: Option<u32>,
    /// How it is rung.
    #[serde(default)]
    pub(crate) doorbell: Doorbell,
}

/// How a consumer drives a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Access {
    /// The function, through VFIO.
    Vfio,
    /// The device behind a vhost node.
    VhostVdpa,
    /// A mediated device, through VFIO.
    Mdev,
    /// The kernel's netdev, by the vdpa bus.
    VirtioVdpa,
    /// The kernel's netdev.
    Netdev,
}

/// The nodes to open; at the same path on the host and in the container.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
pub(crate) enum Nodes {
    /// The IOMMU group's, with the legacy container.
    Group { group: String, container: String },
    /// VFIO's own of the device, with iommufd.
    Cdev { device: String, iommu: String },
    /// The vhost node of a vDPA device.
    VhostVdpa { vhost_vdpa: String },
}

/// How a device is rung, and where, as far as there is such a place.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(crate) struct Doorbell {
    /// How a ring reaches the device.
    pub(crate) effective: Effective,
    /// BAR and VFIO region.
    pub(crate) region: Option<u8>,
    /// Bytes from the start of the region to the notify area.
    pub(crate) offset: Option<u32>,
    length: Option<u32>,
    stride: Option<u32>,
    /// What one page of it rings.
    pub(crate) granularity: Option<Granularity>,
}

/// How a ring reaches the device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Effective {
    /// By a write to a page that is mapped here.
    Direct,
    /// By an eventfd, and the kernel.
    Eventfd,
    /// The kernel's driver rings.
    Kernel,
    /// Not at all.
    #[default]
    None,
}

/// The notify area of a function, as the descriptor has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// BAR and VFIO region.
    pub(crate) region: u8,
    /// Bytes from the start of the region.
    pub(crate) offset: u32,
    /// Bytes of the area.
    pub(crate) length: u32,
    /// Bytes between two `queue_notify_off` steps.
    pub(crate) stride: u32,
    /// What one page of it rings.
    pub(crate) granularity: Granularity,
}

/// Of `attachment.json`, what concerns the wire.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Attachment {
    /// Interface name that CNI gave this attachment.
    pub(crate) interface: String,
    /// Addresses meant for the device.
    #[serde(default)]
    pub(crate) ips: Vec<Ip>,
}

/// An address of an attachment.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Ip {
    /// The address.
    pub(crate) address: IpAddr,
}

impl Device {
    /// The nodes to open, which are of the kind that its access needs.
    pub(crate) fn nodes(&self) -> Result<&Nodes> {
        match (self.access, &self.nodes) {
            (Access::Vfio | Access::Mdev, Some(nodes @ (Nodes::Group { .. } | Nodes::Cdev { .. })))
            | (Access::VhostVdpa, Some(nodes @ Nodes::VhostVdpa { .. })) => Ok(nodes),
            (access, nodes) => bail!("{} is driven by {access:?}, and its nodes are {nodes:?}", self.id),
        }
    }

    /// What rings it: `wish`, or else as the descriptor says.
    pub(crate) fn rung_by(&self, wish: Option<By>) -> Result<By> {
        match (wish, self.doorbell.effective) {
            (Some(by), _) => Ok(by),
            (None, Effective::Direct) => Ok(By::Mapped),
            (None, Effective::Eventfd) => Ok(By::Eventfd),
            (None, other) => bail!("{} is not ours to ring: its doorbell is {other:?}", self.id),
        }
    }

    /// The name by which VFIO knows it: an mdev's UUID, a function's address.
    pub(crate) fn vfio_name(&self) -> &str {
        self.mdev.as_ref().or(self.pci_address.as_ref()).unwrap_or(&self.id)
    }
}

impl Nodes {
    /// The node that is this device's alone.
    pub(crate) fn own(&self) -> &str {
        match self {
            Self::Group { group: own, .. }
            | Self::Cdev { device: own, .. }
            | Self::VhostVdpa { vhost_vdpa: own } => own,
        }
    }
}

impl Doorbell {
    /// The notify area, for who maps it from a BAR.
    pub(crate) fn place(&self) -> Result<Place> {
        let missing = |what| move || format!("the descriptor's doorbell has no {what}");
        Ok(Place {
            region: self.region.with_context(missing("region"))?,
            offset: self.offset.with_context(missing("offset"))?,
            length: self.length.with_context(missing("length"))?,
            stride: self.stride.with_context(missing("stride"))?,
            granularity: self.granularity.with_context(missing("granularity"))?,
        })
    }
}

/// Reads the descriptor of `id`, or of the one device there is, below `root` (`<root>/<pool>/<id>/`).
pub(crate) fn find(root: &Path, id: Option<&str>) -> Result<Descriptor> {
    let mut folders = folders(root)?;
    if let Some(id) = id {
        folders.retain(|folder| folder.ends_with(id));
    }
    match folders.as_slice() {
        [folder] => read(folder),
        [] => match id {
            Some(id) => bail!("find the device {id} in {}: no {DEVICE_FILE} of it", root.display()),
            None => bail!("find a device in {}: no <pool>/<id>/{DEVICE_FILE}", root.display()),
        },
        several => {
            let names: Vec<_> = several.iter().map(|folder| folder.display().to_string()).collect();
            bail!("choose a device: {} stand, name one by --device: {}", several.len(), names.join(", "))
        }
    }
}

/// Every `<root>/<pool>/<id>` with a device file, sorted.
fn folders(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for pool in children(root)? {
        // The runtime mounts other things beside the pools, which may be files.
        if pool.is_dir() {
            found.extend(children(&pool)?.into_iter().filter(|folder| folder.join(DEVICE_FILE).is_file()));
        }
    }
    found.sort();
    Ok(found)
}

fn children(folder: &Path) -> Result<Vec<PathBuf>> {
    let list = || fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>();
    list().with_context(|| format!("list {}", folder.display()))
}

fn read(folder: &Path) -> Result<Descriptor> {
    let path = folder.join(DEVICE_FILE);
    let device: Device = json(&path)?.ok_or_else(|| anyhow!("read {}: it went away", path.display()))?;
    ensure!(
        device.api_version == API_VERSION,
        "read {}: its version is {}, not {API_VERSION}",
        path.display(),
        device.api_version
    );
    let attachment = json(&folder.join(ATTACHMENT_FILE))?;
    Ok(Descriptor { device, attachment })
}

fn json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let text = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        result => result.with_context(|| format!("read {}", path.display()))?,
    };
    serde_json::from_slice(&text).map(Some).with_context(|| format!("parse {}", path.display()))
}

#[cfg(test)]
mod tests;
