//! ACPI indexes of the node's VFs, read when a pool first selects by them: a read a VF that most nodes never need.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use doorbell_common::error::chain;
use doorbell_common::host::Host;
use doorbell_common::kernel::pci::{self, PciAddress};
use tracing::warn;

use super::Vf;
use crate::config::AcpiIndex;

/// The indexes, read or not yet.
#[derive(Debug, Clone)]
pub(super) struct AcpiIndexes {
    host: Host,
    read: OnceLock<BTreeMap<PciAddress, AcpiIndex>>,
}

impl AcpiIndexes {
    pub(super) fn unread(host: &Host) -> Self {
        Self { host: host.clone(), read: OnceLock::new() }
    }

    /// The index of one of `vfs`; `None` where firmware gives it none, or it can't be read.
    pub(super) fn of(&self, vfs: &BTreeMap<PciAddress, Vf>, address: PciAddress) -> Option<AcpiIndex> {
        let read = |address: &PciAddress| match pci::acpi_index(&self.host, *address) {
            Ok(index) => Some((*address, AcpiIndex(index?))),
            Err(error) => {
                warn!(device = %address, error = chain(&error), "ACPI index not readable");
                None
            }
        };
        self.read.get_or_init(|| vfs.keys().filter_map(read).collect()).get(&address).copied()
    }
}
