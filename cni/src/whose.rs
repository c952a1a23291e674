//! Which devices this call is about: what the kubelet gave the pod, and what the configuration names, must agree.

use std::collections::BTreeMap;

use doorbell_common::claim::Pod;
use doorbell_common::formats::cni::NetConf;
use doorbell_common::formats::descriptor::{self, Device};
use doorbell_common::host::Host;
use doorbell_common::subdevice::DeviceId;

use crate::call;
use crate::failure::{Failure, NO_SUCH_DEVICE, NOT_ONE, NOT_THIS_PODS};
use crate::podresources::{self, Held};

/// The devices to wire, in order of their ids.
///
/// In a chain without a named device all of the pod's are wired, none included: the chain serves every pod of the
/// node. A network of its own stands for exactly one.
pub fn devices(host: &Host, pod: &Pod, conf: &NetConf) -> Result<Vec<Device>, Failure> {
    let ours = ours(host)?;
    let named = call::named_device(conf)?;
    if let Some(id) = named.as_ref().filter(|id| !ours.contains_key(id)) {
        return Err(Failure::new(NO_SUCH_DEVICE, format!("the plugin advertises no device {id}")));
    }
    // A node without our devices pays nothing for the chain.
    if ours.is_empty() && conf.prev_result.is_some() {
        return Ok(Vec::new());
    }
    let held = podresources::devices(host, pod)?;
    choose(pod, ours, &held, named.as_ref(), conf.prev_result.is_some())
}

/// What the plugin describes, and so advertises or has advertised.
fn ours(host: &Host) -> Result<BTreeMap<DeviceId, Device>, Failure> {
    let mut ours = BTreeMap::new();
    for id in descriptor::ids(host)? {
        if let Some(device) = descriptor::read_device(host, &id)? {
            ours.insert(id, device);
        }
    }
    Ok(ours)
}

fn choose(
    pod: &Pod,
    ours: BTreeMap<DeviceId, Device>,
    held: &[Held],
    named: Option<&DeviceId>,
    chained: bool,
) -> Result<Vec<Device>, Failure> {
    let is_held = |device: &Device| {
        held.iter().any(|held| held.resource == device.resource && held.id == device.id.as_str())
    };
    let mut mine: Vec<Device> = ours.into_values().filter(is_held).collect();
    let pod = format!("{}/{}", pod.namespace, pod.name);
    match named {
        Some(id) => {
            mine.retain(|device| device.id == *id);
            if mine.is_empty() {
                let msg =
                    format!("device {id} is not pod {pod}'s: the kubelet did not allocate it to that pod");
                return Err(Failure::new(NOT_THIS_PODS, msg));
            }
        }
        None if !chained && mine.len() != 1 => {
            let ids: Vec<&str> = mine.iter().map(|device| device.id.as_str()).collect();
            let msg = format!("the configuration names no device and pod {pod} holds {} of ours", ids.len());
            return Err(Failure::new(NOT_ONE, msg).with_details(ids.join(", ")));
        }
        None => {}
    }
    Ok(mine)
}

#[cfg(test)]
mod tests;
