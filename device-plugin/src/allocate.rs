//! The answer to Allocate: looked up, verified again, and the same however often it is asked.
//!
//! Nothing is bound, created or written here. The kubelet may ask twice for one device (an init container's is reused
//! by an app container), and keeps the answer.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use doorbell_common::error::chain;
use doorbell_common::formats::descriptor;
use doorbell_common::host::Host;
use doorbell_common::kernel::memory;
use doorbell_common::kubelet::deviceplugin::{ContainerAllocateResponse, DeviceSpec, Mount};
use doorbell_common::subdevice::{DeviceId, Eligible, SubDevice};
use serde_json::json;

use crate::config::PoolName;
use crate::inventory::Pool;

/// Why a device is not handed out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No device of this pool has the id.
    #[error("{resource} has no device `{id}`")]
    Unknown {
        /// The resource.
        resource: String,
        /// What was asked for.
        id: String,
    },
    /// Nothing is asked for, or something twice.
    #[error("`{0}` is no set of devices")]
    NotASet(String),
    /// The device is not what was advertised.
    #[error("{id} is not what was advertised: {what}")]
    Changed {
        /// The device.
        id: DeviceId,
        /// What differs.
        what: String,
    },
}

/// The answer for one container.
pub fn answer(
    host: &Host,
    name: &PoolName,
    pool: &Pool,
    ids: &[String],
) -> Result<ContainerAllocateResponse, Refusal> {
    let devices = verified(host, pool, ids)?;
    let mut nodes: Vec<String> =
        devices.iter().flat_map(|device| device.nodes.paths()).map(str::to_owned).collect();
    nodes.sort();
    nodes.dedup();
    Ok(ContainerAllocateResponse {
        envs: environment(&pool.resource, &devices),
        mounts: devices.iter().map(|device| mount(name, &device.id)).collect(),
        devices: nodes.into_iter().map(node).collect(),
        ..Default::default()
    })
}

/// The devices with these ids, each examined afresh and found as it was advertised, its node there.
pub fn verified<'a>(host: &Host, pool: &'a Pool, ids: &[String]) -> Result<Vec<&'a Eligible>, Refusal> {
    let distinct: BTreeSet<&String> = ids.iter().collect();
    if ids.is_empty() || distinct.len() != ids.len() {
        return Err(Refusal::NotASet(ids.join(",")));
    }
    ids.iter()
        .map(|id| {
            let unknown = || Refusal::Unknown { resource: pool.resource.clone(), id: id.clone() };
            let device =
                id.parse().ok().and_then(|id: DeviceId| pool.devices.get(&id)).ok_or_else(unknown)?;
            still_true(host, device).map_err(|what| Refusal::Changed { id: device.id.clone(), what })?;
            Ok(device)
        })
        .collect()
}

fn still_true(host: &Host, device: &Eligible) -> Result<(), String> {
    let page = memory::page_size().map_err(|errno| format!("ask for the page size: {errno}"))?;
    let found = SubDevice::examine(host, device.address, page).map_err(|error| chain(&error))?;
    let now = found.eligible(host, device.nodes.way()).map_err(|reasons| reasons.join("; "))?;
    if now.driver != device.driver {
        return Err(format!("it was on {} and is on {}", device.driver, now.driver));
    }
    if now != *device {
        return Err("its group, its nodes or its doorbell are others than they were".to_owned());
    }
    Ok(())
}

/// The variables that the field's other plugins set, and where the descriptors are.
fn environment(resource: &str, devices: &[&Eligible]) -> HashMap<String, String> {
    let variable = format!("PCIDEVICE_{}", resource.to_uppercase().replace(['.', '/', '-'], "_"));
    let ids: Vec<&str> = devices.iter().map(|device| device.id.as_str()).collect();
    let info: BTreeMap<&str, serde_json::Value> = devices
        .iter()
        .map(|device| {
            let [own, shared] = device.nodes.paths();
            let vfio = json!({ "mount": shared, "dev-mount": own });
            (device.id.as_str(), json!({ "generic": { "deviceID": device.id.as_str() }, "vfio": vfio }))
        })
        .collect();
    HashMap::from([
        (format!("{variable}_INFO"), json!(info).to_string()),
        (variable, ids.join(",")),
        (descriptor::ENV.to_owned(), descriptor::CONTAINER_FOLDER.to_owned()),
    ])
}

fn mount(pool: &PoolName, id: &DeviceId) -> Mount {
    Mount {
        container_path: format!("{}/{pool}/{id}", descriptor::CONTAINER_FOLDER),
        host_path: descriptor::folder(id),
        read_only: true,
    }
}

/// Read and write, never `m`: a container does not make nodes.
fn node(path: String) -> DeviceSpec {
    DeviceSpec { container_path: path.clone(), host_path: path, permissions: "rw".to_owned() }
}
