//! What only some pools select by, read when the first of them asks: files that most nodes never need.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use doorbell_common::error::chain;
use doorbell_common::host::{self, Host};
use doorbell_common::kernel::net::{self, LinkType};
use doorbell_common::kernel::pci::{self, Function, Ids, PciAddress};
use doorbell_common::kernel::sriov::Pf;
use tracing::warn;

use super::Vf;
use crate::config::{AcpiIndex, BaseClass};

/// Of VFs all are read at once, and not again for the next pool; of sub-functions, which are few, each as it is asked.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    host: Host,
    acpi: OfVfs<AcpiIndex>,
    classes: OfVfs<BaseClass>,
}

/// Read or not yet.
type OfVfs<T> = OnceLock<BTreeMap<PciAddress, T>>;

impl Asked {
    pub(super) fn nothing_of(host: &Host) -> Self {
        Self { host: host.clone(), acpi: OfVfs::new(), classes: OfVfs::new() }
    }

    /// The ACPI index of one of `vfs`; `None` where firmware gives it none, or it can't be read.
    pub(super) fn acpi_index(
        &self,
        vfs: &BTreeMap<PciAddress, Vf>,
        address: PciAddress,
    ) -> Option<AcpiIndex> {
        let read = |address| Ok(pci::acpi_index(&self.host, address)?.map(AcpiIndex));
        of_all(&self.acpi, vfs, "ACPI index", read).get(&address).copied()
    }

    /// The base class of one of `vfs`; `None` where it can't be read.
    pub(super) fn class(&self, vfs: &BTreeMap<PciAddress, Vf>, address: PciAddress) -> Option<BaseClass> {
        // Base class, subclass and programming interface are a byte each.
        let read = |address| Ok(u8::try_from(pci::class(&self.host, address)? >> 16).ok().map(BaseClass));
        of_all(&self.classes, vfs, "PCI class", read).get(&address).copied()
    }

    /// The ids of a function that sub-functions are slices of.
    pub(super) fn ids(&self, function: PciAddress) -> Option<Ids> {
        Function::read(&self.host, function)
            .inspect_err(|error| warn!(device = %function, error = chain(error), "PCI ids not readable"))
            .ok()
            .map(|function| function.ids)
    }

    /// What the network interface of a device with that folder is on; of one without an interface here, as on a VFIO
    /// driver or in a pod's namespace, what that of its PF is.
    pub(super) fn link_type(&self, folder: &str, pf: Option<&Pf>) -> Option<LinkType> {
        let read = || {
            let own = net::interfaces(&self.host, folder)?;
            let names = own.iter().chain(pf.into_iter().flat_map(|pf| &pf.netdevs));
            let types =
                names.map(|name| net::link_type(&self.host, name)).collect::<host::Result<Vec<_>>>()?;
            Ok(types.into_iter().flatten().next())
        };
        read()
            .inspect_err(|error: &host::HostError| {
                warn!(device = folder, error = chain(error), "link type not readable");
            })
            .ok()
            .flatten()
    }
}

fn of_all<'a, T>(
    known: &'a OfVfs<T>,
    vfs: &BTreeMap<PciAddress, Vf>,
    what: &str,
    read: impl Fn(PciAddress) -> host::Result<Option<T>>,
) -> &'a BTreeMap<PciAddress, T> {
    let read = |address: &PciAddress| match read(*address) {
        Ok(value) => Some((*address, value?)),
        Err(error) => {
            warn!(device = %address, error = chain(&error), "{what} not readable");
            None
        }
    };
    known.get_or_init(|| vfs.keys().filter_map(read).collect())
}
