//! What is advertised: an immutable snapshot that everything behind it reads.

use std::collections::BTreeMap;

use doorbell_common::host::{self, Host};
use doorbell_common::subdevice::{DeviceId, Eligible, Parent};
use tracing::{info, warn};

use crate::config::{self, AllocationPolicy, Config, NodePermissions, PoolName, ResourcePrefix};
use crate::discovery::{self, Assignment, Survey, Unreadable};
use crate::prepare::Allocated;
use crate::runtime::{self, CdiChoice};
use crate::{prepare, proof};

/// All pools with their devices, and how they are handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    /// First part of every resource name.
    pub prefix: ResourcePrefix,
    /// Bytes of a page of memory on this host.
    pub page: u64,
    /// Whether containers get their devices by CDI names, instead of by the nodes in the kubelet's own answer.
    pub cdi: bool,
    /// Every pool of the config, also one without a device.
    pub pools: BTreeMap<PoolName, Pool>,
}

/// One extended resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Full name, `doorbell.dev/<pool>`.
    pub resource: String,
    /// Whether a container starts only once the CNI has wired its devices.
    pub require_cni: bool,
    /// Which devices the kubelet is advised to take.
    pub allocation: AllocationPolicy,
    /// Who may open the nodes in the container.
    pub node: NodePermissions,
    /// Devices that may be handed out, by id.
    pub devices: BTreeMap<DeviceId, Eligible>,
    /// Those of them that are not healthy now, with the reason.
    pub unhealthy: BTreeMap<DeviceId, String>,
}

/// Prepares what the config asks for and lists what may be handed out. `allocated` is what the kubelet has given away.
pub fn take(host: &Host, config: &Config, allocated: &Allocated, page: u64) -> host::Result<Inventory> {
    let mut survey = discovery::survey(host, page)?;
    for prepare in [prepare::withdraw_and_make_vfs, prepare::carry_out] {
        if prepare(host, config, &survey, allocated) {
            survey = discovery::survey(host, page)?;
        }
    }
    let assigned = survey.assign(config);
    proof::confirm(host, &mut survey, |address| assigned.contains_key(&Parent::Vf(address)));
    Ok(list(host, config, &survey, assigned, page))
}

fn runtime_takes_cdi(host: &Host, config: &Config) -> bool {
    let CdiChoice { on, reason } = runtime::cdi(host, config);
    info!(cdi = on, reason, "how containers get their devices");
    for pool in config.pools.iter().filter(|pool| !on && pool.node != NodePermissions::default()) {
        warn!(pool = %pool.name, reason, "nodeMode and nodeOwner have no effect: only CDI carries them");
    }
    on
}

/// The inventory of a survey, each refused device logged with its reasons.
///
/// `assigned` is from before the proof: a pool that selects by isolation still says why it lost a device to it.
fn list(
    host: &Host,
    config: &Config,
    survey: &Survey,
    assigned: BTreeMap<Parent, Assignment>,
    page: u64,
) -> Inventory {
    let empty = |pool: &config::Pool| Pool {
        resource: config.resource(&pool.name),
        require_cni: pool.require_cni,
        allocation: pool.allocation,
        node: pool.node,
        devices: BTreeMap::new(),
        unhealthy: BTreeMap::new(),
    };
    let mut inventory = Inventory {
        prefix: config.resource_prefix.clone(),
        page,
        cdi: runtime_takes_cdi(host, config),
        pools: config.pools.iter().map(|pool| (pool.name.clone(), empty(pool))).collect(),
    };
    for (address, Unreadable { reason, .. }) in &survey.unreadable {
        warn!(device = %address, reason, "device not readable");
    }
    for (parent, Assignment { pool: name, access, way, also }) in assigned {
        let Some(pool) = inventory.pools.get_mut(&name) else { continue };
        for other in &also {
            warn!(%parent, pool = %name, %other, "selected by two pools: goes to the first");
        }
        for (id, device) in survey.sub_devices(host, &parent, access, way, page) {
            match device {
                Ok(eligible) => {
                    let isolation = eligible.isolation.class;
                    info!(device = %id, pool = %name, %isolation, "device advertised");
                    pool.devices.insert(id, eligible);
                }
                Err(reasons) => {
                    let reasons = reasons.join("; ");
                    warn!(device = %id, pool = %name, reasons, "device not advertised");
                }
            }
        }
    }
    inventory
}
