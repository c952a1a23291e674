//! The isolation verdict: what confines a sub-device's DMA and interrupts to its consumer?
//!
//! sysfs shows the group, its members and the IOMMU; that interrupts are isolated too shows only a successful attach
//! ([`crate::trial::attach`]): without interrupt remapping everything else looks the same and the attach fails.

use serde::{Deserialize, Serialize};

use crate::check::Checks;
use crate::error::chain;
use crate::host::{self, Host};
use crate::kernel::iommu::{self, GroupId, Members};
use crate::kernel::pci::{self, PciAddress};
use crate::kernel::vfio;

/// What confines a sub-device's DMA to its consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// The IOMMU, by the function's own requester id.
    IommuRid,
    /// The device itself, by memory keys that its driver gives each consumer.
    OnDevice,
    /// The kernel: its driver has the rings, and the consumer neither DMA nor registers.
    KernelMediated,
    /// No hardware does DMA: a simulator, for tests.
    Software,
}

/// An isolation class with what shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Isolation {
    /// The class.
    pub class: Class,
    /// The group that its DMA goes through: its parent's. `None` for one of software, or with no group of its own.
    pub group: Option<GroupId>,
}

/// Why a function is not isolated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No translation stands before the function.
    #[error("no IOMMU group: is the IOMMU on (intel_iommu=on, amd_iommu=on)?")]
    NoIommu,
    /// VFIO was told to do without.
    #[error("VFIO runs without an IOMMU (noiommu) for group {0}")]
    NoIommuMode(GroupId),
    /// Who gets one member can reach the others.
    #[error("IOMMU group {group} is shared with {}", others.join(", "))]
    SharedGroup {
        /// The group.
        group: GroupId,
        /// Its other members.
        others: Vec<String>,
    },
    /// Its VFs then open only with a token that the PF's user hands out.
    #[error("its PF {0} is on a VFIO driver itself")]
    PfOnVfio(PciAddress),
    /// Interrupts of the function can be forged.
    #[error("module {0} has allow_unsafe_interrupts set")]
    UnsafeInterrupts(&'static str),
    /// The kernel does not attach the group to a translation.
    #[error("IOMMU group {group} does not attach: {reason}")]
    NotAttached {
        /// The group.
        group: GroupId,
        /// What the kernel said.
        reason: String,
    },
    /// Nothing has shown yet that the group attaches.
    #[error("that IOMMU group {group} attaches is not shown yet: {reason}")]
    Unproven {
        /// The group.
        group: GroupId,
        /// Why not.
        reason: String,
    },
    /// sysfs could not be read.
    #[error("{0}")]
    Unreadable(String),
}

impl Refusal {
    /// The verdict in one word: `none` or `unproven`.
    #[must_use]
    pub fn verdict(&self) -> &'static str {
        match self {
            Self::Unproven { .. } | Self::Unreadable(_) => "unproven",
            _ => "none",
        }
    }
}

/// What sysfs alone shows of the isolation of a function in that group, made by that PF, each step kept in `checks`; the
/// attach has to confirm it.
pub fn examine(
    host: &Host,
    address: PciAddress,
    pf: Option<PciAddress>,
    group: Option<GroupId>,
    checks: &mut Checks,
) -> Result<Isolation, Refusal> {
    let folder = pci::folder(address);
    let group = group.ok_or(Refusal::NoIommu);
    let group =
        checks.step("iommu-group", format_args!("{folder}/iommu_group"), group, GroupId::to_string)?;
    let translated = if vfio::is_noiommu(host, group) { Err(Refusal::NoIommuMode(group)) } else { Ok(()) };
    checks.step("iommu-mode", format_args!("{}", vfio::noiommu_node(group)), translated, |()| {
        "VFIO translates: no such node".to_owned()
    })?;
    let members = format_args!("{}", iommu::members_folder(group));
    checks
        .step("group-members", members, alone(host, address, group), |()| "this function alone".to_owned())?;
    let pf = pf_off_vfio(host, pf);
    checks.step("pf-driver", format_args!("{folder}/physfn/vfio-dev"), pf, |()| {
        "the PF is on no VFIO driver".to_owned()
    })?;
    let safe = vfio::unsafe_interrupts(host).map_err(unreadable).and_then(|module| match module {
        Some(module) => Err(Refusal::UnsafeInterrupts(module)),
        None => Ok(()),
    });
    let parameters = format_args!("{}", vfio::UNSAFE_INTERRUPTS_FILES);
    checks.step("safe-interrupts", parameters, safe, |()| "unsafe interrupts are not allowed".to_owned())?;
    Ok(Isolation { class: Class::IommuRid, group: Some(group) })
}

fn alone(host: &Host, address: PciAddress, group: GroupId) -> Result<(), Refusal> {
    let Members { has_it, others } = iommu::members(host, group, address).map_err(unreadable)?;
    if !others.is_empty() {
        return Err(Refusal::SharedGroup { group, others });
    }
    if !has_it {
        return Err(Refusal::Unreadable(format!("IOMMU group {group} does not list {address}")));
    }
    Ok(())
}

fn pf_off_vfio(host: &Host, pf: Option<PciAddress>) -> Result<(), Refusal> {
    match pf {
        Some(pf) if vfio::is_pf_bound(host, pf).map_err(unreadable)? => Err(Refusal::PfOnVfio(pf)),
        _ => Ok(()),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err takes")]
fn unreadable(error: host::HostError) -> Refusal {
    Refusal::Unreadable(chain(&error))
}

impl std::fmt::Display for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::IommuRid => "iommu-rid",
            Self::OnDevice => "on-device",
            Self::KernelMediated => "kernel-mediated",
            Self::Software => "software",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// A node with one group, as sysfs shows it.
    struct Node {
        root: tempfile::TempDir,
    }

    impl Node {
        fn with_group(members: &[(&str, &str)]) -> Self {
            let root = tempfile::tempdir().unwrap();
            for (address, class) in members {
                let folder = root.path().join("sys/bus/pci/devices").join(address);
                fs::create_dir_all(&folder).unwrap();
                fs::write(folder.join("class"), format!("{class}\n")).unwrap();
                symlink("../../../kernel/iommu_groups/7", folder.join("iommu_group")).unwrap();
                fs::create_dir_all(root.path().join("sys/kernel/iommu_groups/7/devices").join(address))
                    .unwrap();
            }
            Self { root }
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn verify(&self, address: &str) -> Result<Isolation, Refusal> {
            let host = Host::at(self.root.path());
            let address = address.parse().unwrap();
            let group = iommu::group_of(&host, address).unwrap();
            examine(&host, address, None, group, &mut Checks::unkept())
        }
    }

    const VF: (&str, &str) = ("0000:01:00.1", "0x020000");

    #[test]
    fn a_group_of_one_is_isolated() {
        let isolation = Node::with_group(&[VF]).verify(VF.0).unwrap();
        assert_eq!(isolation, Isolation { class: Class::IommuRid, group: Some(GroupId(7)) });
    }

    #[test]
    fn a_second_member_is_refused_by_name() {
        let node = Node::with_group(&[VF, ("0000:01:00.2", "0x020000")]);
        let refusal = node.verify(VF.0).unwrap_err();
        assert_eq!(refusal.to_string(), "IOMMU group 7 is shared with 0000:01:00.2");
    }

    #[test]
    fn bridges_in_the_group_do_not_count() {
        assert!(Node::with_group(&[VF, ("0000:00:02.0", "0x060400")]).verify(VF.0).is_ok());
    }

    #[test]
    fn noiommu_is_refused() {
        let node = Node::with_group(&[VF]);
        node.write("dev/vfio/noiommu-7", "");
        assert_eq!(node.verify(VF.0), Err(Refusal::NoIommuMode(GroupId(7))));
    }

    #[test]
    fn unsafe_interrupts_are_refused() {
        for module in ["vfio_iommu_type1", "iommufd"] {
            let node = Node::with_group(&[VF]);
            node.write(&format!("sys/module/{module}/parameters/allow_unsafe_interrupts"), "Y\n");
            assert_eq!(node.verify(VF.0), Err(Refusal::UnsafeInterrupts(module)));
        }
    }
}
