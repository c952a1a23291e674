//! The answer to Allocate: looked up, verified again, recorded, and the same however often it is asked.
//!
//! No device is bound, made or opened here. The kubelet may ask twice for one device (an init container's is reused by
//! an app container) and replays the answer at every later start, after a reboot too. So what can shift (nodes) goes
//! by CDI name where the runtime takes those, and stays out of the variables; where it stands in the answer itself,
//! the record says what it was.

use std::collections::{BTreeMap, HashMap};

use doorbell_common::allocation::{self, Allocation, By};
use doorbell_common::error::chain;
use doorbell_common::formats::{cdi, descriptor};
use doorbell_common::host::Host;
use doorbell_common::kubelet::deviceplugin::{CdiDevice, ContainerAllocateResponse, DeviceSpec, Mount};
use doorbell_common::subdevice::{DeviceId, Eligible, Nodes};
use serde_json::{Value, json};

use crate::config::PoolName;
use crate::guard::{self, Refusal};
use crate::inventory::{Inventory, Pool, VHOST_NET};

/// The answer for one container.
pub fn answer(
    host: &Host,
    inventory: &Inventory,
    name: &PoolName,
    ids: &[String],
) -> Result<ContainerAllocateResponse, Refusal> {
    let (pool, devices) = guard::verified(host, inventory, name, ids)?;
    devices.iter().try_for_each(|device| guard::let_go(host, &device.id, &pool.resource))?;
    let by_cdi = inventory.cdi.on;
    for device in &devices {
        let by = if by_cdi { By::Cdi } else { By::Nodes(device.nodes.clone()) };
        let record = Allocation::new(device.id.clone(), pool.resource.clone(), by);
        allocation::keep(host, &record).map_err(|error| Refusal::NotRecorded(chain(&error)))?;
    }
    let envs = environment(pool, &devices, by_cdi);
    if by_cdi {
        let name = |device: &&Eligible| CdiDevice { name: cdi::qualified(&pool.kind, &device.id) };
        let cdi_devices = devices.iter().map(name).collect();
        return Ok(ContainerAllocateResponse { envs, cdi_devices, ..Default::default() });
    }
    let mut nodes: Vec<&str> = devices.iter().flat_map(|device| pool.nodes(device)).collect();
    nodes.sort_unstable();
    nodes.dedup();
    Ok(ContainerAllocateResponse {
        envs,
        mounts: devices.iter().map(|device| mount(name, &device.id)).collect(),
        devices: nodes.into_iter().map(node).collect(),
        ..Default::default()
    })
}

/// The variables that the field's other plugins set, and where the descriptors are.
///
/// Kata puts the guest's addresses into a variable that holds PCI addresses and nothing else; what it would leave as it
/// is, is the host's and stays out.
fn environment(pool: &Pool, devices: &[&Eligible], by_cdi: bool) -> HashMap<String, String> {
    let mut variables =
        HashMap::from([(descriptor::ENV.to_owned(), descriptor::CONTAINER_FOLDER.to_owned())]);
    let variable = pool.variable.clone();
    if !pool.runtime.is_kata() {
        variables.insert(format!("{variable}_INFO"), info(pool, devices, by_cdi));
    }
    if !pool.runtime.is_kata() || devices.iter().all(|device| device.is_its_function()) {
        let ids: Vec<&str> = devices.iter().map(|device| device.id.as_str()).collect();
        variables.insert(variable, ids.join(","));
    }
    variables
}

/// What others know of each device. By CDI it names no node of the device: it is replayed as it is, and nodes are
/// renumbered.
fn info(pool: &Pool, devices: &[&Eligible], by_cdi: bool) -> String {
    let info: BTreeMap<&str, Value> = devices
        .iter()
        .map(|device| {
            let mut info = json!({ "generic": { "deviceID": device.id } });
            match &device.nodes {
                Nodes::Vfio(nodes) if !by_cdi => {
                    let [own, shared] = nodes.paths();
                    info["vfio"] = json!({ "mount": shared, "dev-mount": own });
                }
                Nodes::VhostVdpa { vhost_vdpa } if !by_cdi => info["vdpa"] = json!({ "mount": vhost_vdpa }),
                _ => {}
            }
            if pool.vhost_net {
                let [net, tun] = VHOST_NET;
                info["vhost"] = json!({ "net-mount": net, "tun-mount": tun });
            }
            let extra = pool.additional_info.about(&device.id);
            if !extra.is_empty() {
                info["extra"] = json!(extra);
            }
            (device.id.as_str(), info)
        })
        .collect();
    json!(info).to_string()
}

fn mount(pool: &PoolName, id: &DeviceId) -> Mount {
    Mount {
        container_path: descriptor::container_folder(pool.as_str(), id),
        host_path: descriptor::folder(id),
        read_only: true,
    }
}

/// Read and write, never `m`: a container does not make nodes.
fn node(path: &str) -> DeviceSpec {
    DeviceSpec { container_path: path.to_owned(), host_path: path.to_owned(), permissions: "rw".to_owned() }
}
