//! What stands between an advertised device and its container: at Allocate, and at every start of the container.
//!
//! Reads only. The kubelet asks PreStartContainer before each start, restarts and the first start after a reboot
//! included, and starts nothing that is refused here.

use std::collections::BTreeSet;

use doorbell_common::allocation::{self, By, NoRecord, Stale};
use doorbell_common::claim;
use doorbell_common::error::chain;
use doorbell_common::host::Host;
use doorbell_common::subdevice::{DeviceId, Eligible};

use crate::config::PoolName;
use crate::inventory::{Inventory, Pool};
use crate::publish;

/// Why a device is not handed out, or its container not started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The pool has left the config.
    #[error("pool {0} is no longer configured")]
    NoPool(PoolName),
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
    /// The device is advertised as one that is not to be used now.
    #[error("{id} is unhealthy: {why}")]
    Unhealthy {
        /// The device.
        id: DeviceId,
        /// Why.
        why: String,
    },
    /// A file that the container rests on was taken away.
    #[error("{0} is gone; it is written anew in a moment")]
    Unpublished(String),
    /// The kubelet would replay an answer of which nobody could say later whether it still holds.
    #[error("the answer could not be recorded: {0}")]
    NotRecorded(String),
    /// The kubelet counts resources apart: what it believes to be free may be a pod's under another name.
    #[error("{id} came from another pool, and {holder} still holds it as {resource}")]
    StillHeld {
        /// The device.
        id: DeviceId,
        /// Who claims it.
        holder: String,
        /// The resource as which it was given.
        resource: String,
    },
    /// What the kubelet replays can't be held against anything.
    #[error(transparent)]
    NoRecord(#[from] NoRecord),
    /// The kubelet replays a CDI name, and nothing answers to it any more.
    #[error(
        "the kubelet replays the CDI name of {0}, and containers get their devices by DeviceSpec now: delete the pod to have it allocated anew"
    )]
    CdiIsOff(DeviceId),
    /// What the kubelet replays is no longer true.
    #[error(transparent)]
    Stale(#[from] Stale),
    /// The pool wants its devices wired, and this one is not.
    #[error(
        "{id} is not wired, and pool {pool} has requireCni: {why} (is `doorbell` in the pod's CNI chain? a device that only an init container asks for is not wired)"
    )]
    NotWired {
        /// The device.
        id: DeviceId,
        /// The pool.
        pool: PoolName,
        /// What is missing.
        why: String,
    },
}

/// The pool and the devices with these ids, each examined afresh and found as it was advertised, its files there.
pub fn verified<'a>(
    host: &Host,
    inventory: &'a Inventory,
    name: &PoolName,
    ids: &[String],
) -> Result<(&'a Pool, Vec<&'a Eligible>), Refusal> {
    let pool = inventory.pools.get(name).ok_or_else(|| Refusal::NoPool(name.clone()))?;
    let distinct: BTreeSet<&String> = ids.iter().collect();
    if ids.is_empty() || distinct.len() != ids.len() {
        return Err(Refusal::NotASet(ids.join(",")));
    }
    let device = |id: &String| -> Result<&Eligible, Refusal> {
        let unknown = || Refusal::Unknown { resource: pool.resource.clone(), id: id.clone() };
        let device = id.parse().ok().and_then(|id: DeviceId| pool.devices.get(&id)).ok_or_else(unknown)?;
        if let Some(why) = pool.unhealthy.get(&device.id) {
            return Err(Refusal::Unhealthy { id: device.id.clone(), why: why.to_string() });
        }
        let changed = |what| Refusal::Changed { id: device.id.clone(), what };
        still_true(host, device, inventory.page).map_err(changed)?;
        Ok(device)
    };
    let devices = ids.iter().map(device).collect::<Result<Vec<_>, _>>()?;
    match publish::missing(host, inventory, name, devices.iter().map(|device| &device.id)) {
        Some(gone) => Err(Refusal::Unpublished(gone)),
        None => Ok((pool, devices)),
    }
}

/// Whether a device that was last given as another resource has been let go of there: a changed config moves it to
/// another pool, and its pod stays. A pod that no CNI wired leaves no claim to be seen by.
pub fn let_go(host: &Host, id: &DeviceId, resource: &str) -> Result<(), Refusal> {
    // A record that says nothing is replaced by this answer's.
    let Ok(Some(record)) = allocation::read(host, id) else { return Ok(()) };
    if record.resource == resource {
        return Ok(());
    }
    let holder = match claim::of_this_boot(host, id) {
        Ok(None) => return Ok(()),
        Ok(Some(claim)) => format!("pod {}/{}", claim.holder.pod.namespace, claim.holder.pod.name),
        Err(error) => format!("somebody ({})", chain(&error)),
    };
    Err(Refusal::StillHeld { id: id.clone(), holder, resource: record.resource })
}

/// Whether a container with these devices may start: the answer that the kubelet replays for it is still true, and the
/// CNI has been there, where the pool requires that.
pub fn may_start(host: &Host, inventory: &Inventory, name: &PoolName, ids: &[String]) -> Result<(), Refusal> {
    let (pool, devices) = verified(host, inventory, name, ids)?;
    for Eligible { id, nodes, .. } in devices {
        let record = allocation::known(host, id)?;
        record.holds(&pool.resource, nodes)?;
        if record.by == By::Cdi && !inventory.cdi.on {
            return Err(Refusal::CdiIsOff(id.clone()));
        }
        if pool.require_cni {
            wired(host, id).map_err(|why| Refusal::NotWired { id: id.clone(), pool: name.clone(), why })?;
        }
    }
    Ok(())
}

fn still_true(host: &Host, device: &Eligible, page: u64) -> Result<(), String> {
    let now = device.subject().examine(host, page).map_err(|reasons| reasons.to_string())?;
    if now.driver != device.driver {
        let [was, is] = [&device.driver, &now.driver].map(|driver| driver.as_deref().unwrap_or("no driver"));
        return Err(format!("it was on {was} and is on {is}"));
    }
    if now.nodes != device.nodes {
        return Err(format!("it was at {} and is at {}", device.nodes, now.nodes));
    }
    if now != *device {
        return Err("its group or its doorbell is another than it was".to_owned());
    }
    Ok(())
}

/// The sandbox is there before any of its containers, so what ADD left is a claim of this boot whose sandbox stands. A
/// claim whose sandbox is gone is another pod's, of which no DEL ever came: the CNI is in the chain no more.
fn wired(host: &Host, id: &DeviceId) -> Result<(), String> {
    match claim::of_this_boot(host, id) {
        Ok(Some(claim)) if host.exists(&claim.holder.netns) => Ok(()),
        Ok(Some(claim)) => Err(format!("the sandbox that claims it is gone with {}", claim.holder.netns)),
        Ok(None) => Err("no sandbox of this boot has claimed it".to_owned()),
        Err(error) => Err(chain(&error)),
    }
}
