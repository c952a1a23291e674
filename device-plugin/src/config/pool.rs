//! A pool: one extended resource, what stands behind it and how it is handed out.

use doorbell_common::formats::descriptor::Access;
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::{DriverName, PoolName, Select};

/// One extended resource and the sub-devices behind it.
#[derive(Debug, Clone)]
pub struct Pool {
    /// Last part of the resource name.
    pub name: PoolName,
    /// How a pod drives the sub-device.
    pub access: Access,
    /// Container runtime of the pods that take from this pool; `runc` by default.
    pub runtime: Runtime,
    /// Which sub-devices.
    pub select: Select,
    /// What is made and bound for the pool; absent: sub-devices are taken as they are found.
    pub prepare: Option<Prepare>,
}

/// The pool as it is written: fields that others contradict keep their lines.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PoolFields {
    name: Spanned<PoolName>,
    access: Access,
    #[serde(default)]
    runtime: Runtime,
    select: Spanned<Select>,
    prepare: Option<Spanned<Prepare>>,
}

/// Container runtimes that differ in what they take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Runtime {
    /// Any OCI runtime in the host's kernel.
    #[default]
    Runc,
}

/// What is done before sub-devices are advertised.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Prepare {
    /// Makes this many VFs on each PF in `select.pfNames` and `select.rootDevices` that has none; more are left as
    /// they are.
    pub num_vfs: Option<u32>,
    /// Binds each selected VF to this driver; `vfio-pci` by default. One on another VFIO driver stays there.
    #[serde(default)]
    pub driver: DriverName,
}

/// What makes no sense beside the rest of the file.
pub(super) struct Contradiction {
    pub(super) line: u64,
    /// Path of the field, within the pool.
    pub(super) field: &'static str,
    pub(super) message: String,
}

impl PoolFields {
    /// The pool, behind those that stand before it.
    pub(super) fn checked(self, before: &[Pool]) -> Result<Pool, Contradiction> {
        let Self { name, access, runtime, select, prepare } = self;
        let refused = |line, field, message: String| Err(Contradiction { line, field, message });
        if before.iter().any(|other| other.name == name.value) {
            let message = format!("pool `{}` is there already", name.value);
            return refused(name.referenced.line(), "name", message);
        }
        // Every VF of the node would be in the pool, and `prepare` would take them all off their drivers.
        if select.value == Select::default() {
            return refused(select.referenced.line(), "select", "no selector is given".to_owned());
        }
        if let Some(Spanned { value: prepare, referenced, .. }) = &prepare {
            if prepare.num_vfs.is_some() && select.value.pfs().next().is_none() {
                let message = "neither select.pfNames nor select.rootDevices names a PF to make VFs on";
                return refused(referenced.line(), "prepare.numVfs", message.to_owned());
            }
            let drivers = &select.value.drivers;
            if !drivers.is_empty() && !drivers.contains(&prepare.driver) {
                let message = "once bound to prepare.driver, no VF would be selected any more";
                return refused(select.referenced.line(), "select.drivers", message.to_owned());
            }
        }
        let prepare = prepare.map(|prepare| prepare.value);
        Ok(Pool { name: name.value, access, runtime, select: select.value, prepare })
    }
}
