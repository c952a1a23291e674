//! What has been prepared already: each parent once, as the config in force wants it.
//!
//! Who takes a device off its driver by hand has a reason, and is not fought: it stays as they left it, unhealthy, until
//! it is given back, goes and comes again, or the plugin starts anew.

use std::collections::BTreeSet;

use doorbell_common::kernel::pci::PciAddress;
use doorbell_common::subdevice::Parent;

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

    /// Forgets parents and PFs of which these say no.
    pub(super) fn keep(&mut self, parent: impl Fn(&Parent) -> bool, pf: impl Fn(PciAddress) -> bool) {
        self.parents.retain(parent);
        self.pfs.retain(|address| pf(*address));
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
