//! What has been prepared already: each parent once, as the config in force wants it.
//!
//! Who takes a device off its driver by hand has a reason, and is not fought: it stays as they left it, unhealthy, until
//! it is given back, goes and comes again, or the plugin starts anew.

use std::collections::BTreeSet;

use doorbell_common::kernel::pci::PciAddress;
use doorbell_common::subdevice::Parent;

use super::{plans, vfs};
use crate::config::Config;
use crate::discovery::{Survey, Touched};

/// Parents and PFs that were prepared, or are as they are wanted.
#[derive(Debug, Clone, Default)]
pub struct Settled {
    parents: BTreeSet<Parent>,
    pfs: BTreeSet<PciAddress>,
    /// Those of them with which it did not go well. Not tried again because of what the kernel says of the failing.
    failed: Failed,
}

#[derive(Debug, Clone, Default)]
struct Failed {
    parents: BTreeSet<Parent>,
    pfs: BTreeSet<PciAddress>,
    /// Something that no pool wants any more had to stay.
    withdrawal: bool,
}

impl Settled {
    /// Forgets what is gone, also what went and came again.
    pub fn forget(&mut self, survey: &Survey, touched: &Touched) {
        let went = |address: PciAddress| touched.has_removed(address);
        self.parents.retain(|parent| survey.has(parent) && !parent.vf().is_some_and(went));
        self.pfs.retain(|pf| survey.pfs.iter().any(|there| there.address == *pf) && !went(*pf));
    }

    /// Forgets what another config wants otherwise.
    pub fn forget_what_changes(&mut self, survey: &Survey, was: &Config, is: &Config) {
        let (plans_were, plans_are) = (plans(was, survey), plans(is, survey));
        let (vfs_were, vfs_are) = (vfs::wanted(was, survey, false), vfs::wanted(is, survey, false));
        self.parents.retain(|parent| survey.has(parent) && plans_were.get(parent) == plans_are.get(parent));
        self.pfs.retain(|pf| vfs_were.get(pf) == vfs_are.get(pf));
    }

    /// Has what failed tried once more. Whether that is something to be taken back.
    pub fn try_again(&mut self) -> bool {
        let Failed { parents, pfs, withdrawal } = std::mem::take(&mut self.failed);
        self.parents.retain(|parent| !parents.contains(parent));
        self.pfs.retain(|pf| !pfs.contains(pf));
        withdrawal
    }

    pub(super) fn add(&mut self, parent: &Parent) {
        self.parents.insert(parent.clone());
    }

    pub(super) fn add_pf(&mut self, pf: PciAddress) {
        self.pfs.insert(pf);
    }

    pub(super) fn fail(&mut self, parent: &Parent) {
        self.failed.parents.insert(parent.clone());
    }

    pub(super) fn fail_pf(&mut self, pf: PciAddress) {
        self.failed.pfs.insert(pf);
    }

    pub(super) fn fail_withdrawal(&mut self) {
        self.failed.withdrawal = true;
    }

    pub(super) fn has(&self, parent: &Parent) -> bool {
        self.parents.contains(parent)
    }

    pub(super) fn has_pf(&self, pf: PciAddress) -> bool {
        self.pfs.contains(&pf)
    }
}
