//! What the kernel's uevents say has changed: enough to know what is to be looked at again.

use std::collections::BTreeSet;

use doorbell_common::fault::{self, Bug};
use doorbell_common::host::Host;
use doorbell_common::kernel::iommu::{self, GroupId};
use doorbell_common::kernel::pci::PciAddress;
use doorbell_common::kernel::uevent::Uevent;

/// Subsystems whose devices sub-devices are, stand on or are driven by. Of `net`, links of software are passed over:
/// each pod of the node has some.
const SUBSYSTEMS: [&str; 7] = ["pci", "vfio", "vfio-dev", "vdpa", "mdev", "auxiliary", "net"];

/// What was touched since the last look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touched {
    /// Nobody knows what: everything may have been.
    everything: bool,
    /// PCI functions that something happened to, or below.
    functions: BTreeSet<PciAddress>,
    /// Those of them that went away, be they back by now or not.
    removed: BTreeSet<PciAddress>,
}

impl Touched {
    /// Everything, as far as anybody knows.
    #[must_use]
    pub fn everything() -> Self {
        Self { everything: true, ..Self::default() }
    }

    /// Adds what a uevent says. Whether it concerns sub-devices at all.
    pub fn add(&mut self, uevent: &Uevent) -> bool {
        if fault::planted(Bug::MissedUevent) && uevent.action == "unbind" {
            return false;
        }
        let subsystem = uevent.subsystem.as_str();
        if !SUBSYSTEMS.contains(&subsystem)
            || subsystem == "net" && uevent.devpath.starts_with("/devices/virtual/")
        {
            return false;
        }
        if let Some(function) = uevent.function() {
            self.functions.insert(function);
            if subsystem == "pci" && uevent.action == "remove" {
                self.removed.insert(function);
            }
        }
        true
    }

    /// Adds what else was touched.
    pub fn and(&mut self, more: Self) {
        self.everything |= more.everything;
        self.functions.extend(more.functions);
        self.removed.extend(more.removed);
    }

    /// Whether nobody knows what was touched.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.everything
    }

    /// Whether a function was touched.
    #[must_use]
    pub fn has(&self, function: PciAddress) -> bool {
        self.everything || self.functions.contains(&function)
    }

    /// Whether all that was touched is known, and `holds` of each.
    #[must_use]
    pub(super) fn all(&self, holds: impl FnMut(PciAddress) -> bool) -> bool {
        !self.everything && self.functions.iter().copied().all(holds)
    }

    /// Whether a function went away, or may have, though it may be there again.
    #[must_use]
    pub fn has_removed(&self, function: PciAddress) -> bool {
        self.everything || self.removed.contains(&function)
    }

    /// The IOMMU groups of what was touched, as they are now: who joins a group changes what its members are worth.
    pub(super) fn groups(&self, host: &Host) -> BTreeSet<GroupId> {
        self.functions.iter().filter_map(|function| iommu::group_of(host, *function).ok().flatten()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touched(events: &[(&str, &str, &str)]) -> (Touched, Vec<bool>) {
        let mut touched = Touched::default();
        let concerned = events.iter().map(|(action, subsystem, devpath)| {
            let [action, subsystem, devpath] = [action, subsystem, devpath].map(|text| (*text).to_owned());
            touched.add(&Uevent { action, subsystem, devpath })
        });
        let concerned = concerned.collect();
        (touched, concerned)
    }

    #[test]
    fn a_pods_own_links_concern_nobody_and_a_vfs_link_does() {
        let vf = "/devices/pci0000:00/0000:01:00.1";
        let (touched, concerned) = touched(&[
            ("add", "net", "/devices/virtual/net/veth0"),
            ("add", "block", vf),
            ("add", "net", &format!("{vf}/net/eth1")),
        ]);
        assert_eq!(concerned, [false, false, true]);
        assert!(touched.has("0000:01:00.1".parse().unwrap()));
    }

    #[test]
    fn a_driver_that_leaves_is_no_function_that_goes() {
        let vf = "/devices/pci0000:00/0000:01:00.1";
        let address = "0000:01:00.1".parse().unwrap();
        assert!(!touched(&[("unbind", "pci", vf), ("remove", "vfio-dev", vf)]).0.has_removed(address));
        assert!(touched(&[("remove", "pci", vf), ("add", "pci", vf)]).0.has_removed(address));
        assert!(Touched::everything().has_removed(address));
    }
}
