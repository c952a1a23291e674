//! What has to be looked at of each VF, as a list: the reads of the bare loop. A test holds the plugin to it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::PathBuf;

use crate::load::{Vf, pf_address};

/// sysfs gives no attribute more than a page.
const PAGE: usize = 4096;

/// How something is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Look {
    /// Opened, read once and closed.
    Read,
    /// Where a link leads.
    Link,
    /// What a folder holds.
    List,
    /// Whether it is there.
    Stat,
}

/// One look at one path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attribute {
    /// How.
    pub look: Look,
    /// At what.
    pub path: PathBuf,
}

impl Attribute {
    fn new(look: Look, path: String) -> Self {
        Self { look, path: PathBuf::from(path) }
    }

    /// Looks, by the system calls that this takes and no others.
    pub fn look(&self) -> io::Result<()> {
        match self.look {
            Look::Read => {
                let mut bytes = [0; PAGE];
                match File::open(&self.path) {
                    Ok(mut file) => file.read(&mut bytes).map(drop),
                    Err(error) => absent_is_fine(error),
                }
            }
            Look::Link => fs::read_link(&self.path).map(drop),
            Look::List => match fs::read_dir(&self.path) {
                Ok(mut names) => names.try_for_each(|entry| entry.map(drop)),
                Err(error) => absent_is_fine(error),
            },
            Look::Stat => fs::metadata(&self.path).map(drop).or_else(absent_is_fine),
        }
    }
}

fn absent_is_fine(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// What tells of one VF: identity, driver, BARs and NUMA node; the capabilities that its doorbell is read from; what
/// confines it; its nodes.
#[must_use]
pub fn of_vf(vf: Vf) -> Vec<Attribute> {
    let folder = format!("/sys/bus/pci/devices/{}", vf.address());
    let number = vf.number;
    let pf = pf_folder(vf);
    vec![
        Attribute::new(Look::Link, format!("{pf}/virtfn{}", vf.index)),
        Attribute::new(Look::Read, format!("{folder}/vendor")),
        Attribute::new(Look::Read, format!("{folder}/device")),
        Attribute::new(Look::Link, format!("{folder}/driver")),
        Attribute::new(Look::Read, format!("{folder}/numa_node")),
        Attribute::new(Look::Read, format!("{folder}/resource")),
        Attribute::new(Look::Read, format!("{folder}/config")),
        Attribute::new(Look::Link, format!("{folder}/iommu_group")),
        Attribute::new(Look::List, format!("/sys/kernel/iommu_groups/{number}/devices")),
        Attribute::new(Look::List, format!("{folder}/vfio-dev")),
    ]
}

/// What is published of it: where it stands already, it has to be what it is now.
#[must_use]
pub fn published(vf: Vf, resource: &str) -> [Attribute; 2] {
    let (address, resource) = (vf.address(), resource.replace('/', "-"));
    [
        Attribute::new(Look::Read, format!("/run/doorbell/devices/{address}/device.json")),
        Attribute::new(
            Look::Read,
            format!("/var/run/k8s.cni.cncf.io/devinfo/dp/{resource}-{address}-device.json"),
        ),
    ]
}

/// What Allocate verifies again of one VF: all that told of it, on its own now, the files that a container with it rests
/// on, and what is on record of it.
#[must_use]
pub fn verified(vf: Vf, resource: &str) -> Vec<Attribute> {
    let (address, number) = (vf.address(), vf.number);
    let folder = format!("/sys/bus/pci/devices/{address}");
    let pool = resource.rsplit('/').next().unwrap_or(resource);
    let of_vf = of_vf(vf).into_iter().filter(|attribute| !attribute.path.starts_with(pf_folder(vf)));
    let more = [
        Attribute::new(Look::Link, format!("{folder}/physfn")),
        Attribute::new(Look::Stat, format!("/dev/vfio/noiommu-{number}")),
        Attribute::new(Look::List, format!("{}/vfio-dev", pf_folder(vf))),
        Attribute::new(
            Look::Read,
            "/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts".to_owned(),
        ),
        Attribute::new(Look::Read, "/sys/module/iommufd/parameters/allow_unsafe_interrupts".to_owned()),
        Attribute::new(Look::Stat, format!("/dev/vfio/{number}")),
        Attribute::new(Look::Stat, "/dev/vfio/vfio".to_owned()),
        Attribute::new(Look::Stat, format!("/var/run/cdi/{}", specification(pool))),
        Attribute::new(Look::Stat, format!("/run/doorbell/devices/{address}/device.json")),
        Attribute::new(Look::Read, record(&address)),
    ];
    of_vf.chain(more).collect()
}

/// Where it is on record what a device was given as.
#[must_use]
pub fn record(address: &str) -> String {
    format!("/var/lib/doorbell/allocations/{address}")
}

fn specification(pool: &str) -> String {
    format!("doorbell-{pool}.json")
}

fn pf_folder(vf: Vf) -> String {
    format!("/sys/bus/pci/devices/{}", pf_address(vf.pf))
}
