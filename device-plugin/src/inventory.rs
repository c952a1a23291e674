//! What is advertised: an immutable snapshot that everything behind it reads.

mod before;
pub mod news;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use doorbell_common::formats::cdi::Spec;
use doorbell_common::host::Host;
use doorbell_common::subdevice::{DeviceId, Eligible, Kind, Parent, Reasons};

use crate::config::{
    self, AdditionalInfo, AllocationPolicy, Config, NodePermissions, PoolName, Registration, ResourcePrefix,
    Runtime,
};
use crate::discovery::{self, Assignment, Survey, Unreadable};
use crate::proof;
use crate::runtime::{self, CdiChoice};

pub use self::before::Before;

/// Nodes for who makes packets of a TAP device go through vhost (`/dev/vhost-net` and `/dev/net/tun`, minor numbers 238 and
/// 200 in the kernel's `devices.txt`: they are the same in every boot).
pub const VHOST_NET: [&str; 2] = ["/dev/vhost-net", "/dev/net/tun"];

/// All pools with their devices, and how they are handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    /// First part of every resource name that a pool does not give itself.
    pub prefix: ResourcePrefix,
    /// Bytes of a page of memory on this host.
    pub page: u64,
    /// Whether containers get their devices by CDI names, instead of by the nodes in the kubelet's own answer.
    pub cdi: CdiChoice,
    /// How pools come to be known to the kubelet.
    pub registration: Registration,
    /// Every pool of the config, also one without a device.
    pub pools: BTreeMap<PoolName, Pool>,
    /// CDI specifications of devices that are not listed any more, and that pods may still have.
    pub left: Vec<Spec>,
    /// What else is to be said, by the parent that it is about: one that can't be read, one that two pools select.
    pub remarks: BTreeMap<String, String>,
}

/// One extended resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Full name, `doorbell.dev/<pool>` or the pool's own.
    pub resource: String,
    /// The environment variable that has the ids of a container's devices.
    pub variable: String,
    /// Kind of its CDI names: `doorbell.dev/<pool>`, for a resource's own name may be none, as where it begins with a
    /// digit; of pools for Kata the resource, by which Kata looks devices up.
    pub kind: String,
    /// Container runtime of its pods.
    pub runtime: Runtime,
    /// Whether a container starts only once the CNI has wired its devices.
    pub require_cni: bool,
    /// Which devices the kubelet is advised to take.
    pub allocation: AllocationPolicy,
    /// Who may open the nodes in the container.
    pub node: NodePermissions,
    /// Whether the kubelet is not told of NUMA nodes.
    pub exclude_topology: bool,
    /// Whether containers get the nodes of vhost-net besides.
    pub vhost_net: bool,
    /// What containers are told besides.
    pub additional_info: AdditionalInfo,
    /// Devices that are advertised, by id. One that is as it was is shared with the inventory before, and so are all of
    /// them where none is otherwise.
    pub devices: Arc<BTreeMap<DeviceId, Arc<Eligible>>>,
    /// Those of them that are not healthy now, with the reason.
    pub unhealthy: BTreeMap<DeviceId, Reasons>,
    /// Devices that the pool selects and that are not advertised, with the reason.
    pub refused: BTreeMap<DeviceId, Reasons>,
}

/// The inventory of a survey, its isolation confirmed first. With the look before it, what was advertised and may not be
/// handed out any more stays listed as unhealthy.
pub fn list(host: &Host, config: &Config, survey: &Survey, before: Option<&Before>, page: u64) -> Inventory {
    let empty = |pool: &config::Pool| Pool {
        resource: config.resource(pool),
        variable: config.variable(pool),
        kind: match pool.runtime.is_kata() {
            true => config.resource(pool),
            false => format!("{}/{}", config.resource_prefix, pool.name),
        },
        runtime: pool.runtime.clone(),
        require_cni: pool.require_cni,
        allocation: pool.allocation,
        node: pool.node,
        exclude_topology: pool.exclude_topology,
        vhost_net: pool.vhost_net,
        additional_info: pool.additional_info.clone(),
        devices: Arc::default(),
        unhealthy: BTreeMap::new(),
        refused: BTreeMap::new(),
    };
    let mut inventory = Inventory {
        prefix: config.resource_prefix.clone(),
        page,
        cdi: runtime::cdi(host, config),
        registration: config.registration,
        pools: config.pools.iter().map(|pool| (pool.name.clone(), empty(pool))).collect(),
        left: Vec::new(),
        remarks: BTreeMap::new(),
    };
    for (address, Unreadable { reason, .. }) in &survey.unreadable {
        inventory.remarks.insert(address.to_string(), format!("not readable: {reason}"));
    }
    if let Some(reason) = &survey.unlisted {
        inventory.remarks.insert("vDPA".to_owned(), format!("management devices not listed: {reason}"));
    }
    // Selected from before the proof: a pool that selects by isolation still says why it lost a device to it.
    let may_open = |address| survey.assignment(config, &Parent::Vf(address)).is_some();
    let confirmed = proof::confirm(host, survey, may_open);
    let kept = before.map(|before| before.keep(survey, &confirmed, &mut inventory)).unwrap_or_default();
    let (mut standing, mut doubtful) = (kept.vfs.into_iter().peekable(), kept.doubtful);
    for parent in survey.parents() {
        if parent.vf().is_some_and(|vf| standing.next_if_eq(&vf).is_some()) {
            continue;
        }
        let Some(Assignment { pool: name, driven, also }) = survey.assignment(config, &parent) else {
            continue;
        };
        let Some(pool) = inventory.pools.get_mut(&name) else { continue };
        if let Some(overlap) = discovery::overlap(&also) {
            inventory.remarks.insert(parent.to_string(), overlap);
        }
        for (id, device) in confirmed.sub_devices(host, &parent, driven, page) {
            match device {
                Ok(eligible) => {
                    let was = before.and_then(|before| before.inventory.pools.get(&name)?.devices.get(&id));
                    let same = was.filter(|was| ***was == eligible).cloned();
                    doubtful.get_mut(&name).map(|doubtful| doubtful.remove(&id));
                    pool.list(id, same.unwrap_or_else(|| Arc::new(eligible)));
                }
                Err(reasons) => drop(pool.refused.insert(id, reasons)),
            }
        }
    }
    if let Some(before) = before {
        before.decide(config, survey, doubtful, &mut inventory);
    }
    inventory
}

impl Pool {
    /// Whether another hands its devices out in all as this one does, whatever devices it has.
    #[must_use]
    pub fn is_handed_out_as(&self, other: &Self) -> bool {
        let without = |pool: &Self| Self {
            devices: Arc::default(),
            unhealthy: BTreeMap::new(),
            refused: BTreeMap::new(),
            resource: pool.resource.clone(),
            variable: pool.variable.clone(),
            kind: pool.kind.clone(),
            runtime: pool.runtime.clone(),
            additional_info: pool.additional_info.clone(),
            ..*pool
        };
        without(self) == without(other)
    }

    /// Whether its devices are those of another, as they were found by the same look.
    #[must_use]
    pub fn has_same_devices(&self, other: &Self) -> bool {
        let mut pairs = self.devices.values().zip(other.devices.values());
        Arc::ptr_eq(&self.devices, &other.devices)
            || self.devices.len() == other.devices.len() && pairs.all(|(one, other)| Arc::ptr_eq(one, other))
    }

    /// Lists a device, if it is not.
    fn list(&mut self, id: DeviceId, device: Arc<Eligible>) {
        if self.devices.get(&id).is_none_or(|listed| !Arc::ptr_eq(listed, &device)) {
            Arc::make_mut(&mut self.devices).insert(id, device);
        }
    }

    /// The nodes of a device that its container is handed.
    #[must_use]
    pub fn nodes<'a>(&self, device: &'a Eligible) -> Vec<&'a str> {
        let besides = if self.vhost_net { &VHOST_NET[..] } else { &[] };
        self.runtime.nodes(device).into_iter().chain(besides.iter().copied()).collect()
    }
}

impl Inventory {
    /// Whether a pool has a CDI specification. Kata reads it by itself, whatever the runtime above it does.
    #[must_use]
    pub fn is_specified(&self, pool: &Pool) -> bool {
        self.cdi.on || pool.runtime.is_kata()
    }

    /// Whether the devices are the same, healthy or not.
    #[must_use]
    pub fn has_same_devices(&self, other: &Self) -> bool {
        let same = |((name, pool), (other_name, other)): ((&PoolName, &Pool), (&PoolName, &Pool))| {
            name == other_name && pool.has_same_devices(other)
        };
        self.pools.len() == other.pools.len() && self.pools.iter().zip(&other.pools).all(same)
    }

    /// Has what is the same in another inventory once for both.
    pub fn share(&mut self, other: &Self) {
        for (name, pool) in &mut self.pools {
            if let Some(other) = other.pools.get(name).filter(|other| pool.has_same_devices(other)) {
                pool.devices = Arc::clone(&other.devices);
            }
        }
    }

    /// Adds reasons for which devices are not to be used now to those that they have.
    pub fn mark(&mut self, kind: Kind, reasons: &BTreeMap<DeviceId, String>) {
        for pool in self.pools.values_mut() {
            for (id, reason) in reasons.iter().filter(|(id, _)| pool.devices.contains_key(*id)) {
                let more = Reasons::from(kind.because(reason));
                match pool.unhealthy.entry(id.clone()) {
                    Entry::Vacant(none) => drop(none.insert(more)),
                    Entry::Occupied(mut all) => all.get_mut().add(&more),
                }
            }
        }
    }
}
