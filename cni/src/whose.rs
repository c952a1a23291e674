//! Which devices this call is about: what the kubelet gave the pod, what the plugin has on record and describes, and
//! what the configuration names, must agree.

use doorbell_common::allocation::{self, NoRecord};
use doorbell_common::claim::Pod;
use doorbell_common::formats::cni::code;
use doorbell_common::formats::descriptor::{self, Device};
use doorbell_common::host::{self, Host};
use doorbell_common::subdevice::DeviceId;

use crate::config::Config;
use crate::failure::{Failure, NO_SUCH_DEVICE, NOT_ELIGIBLE, NOT_ONE, NOT_THIS_PODS};
use crate::podresources::{self, Held};

/// The devices to wire, in order of their ids.
///
/// In a chain without a named device all of the pod's are wired, none included: the chain serves every pod of the
/// node. A network of its own stands for exactly one.
pub fn devices(host: &Host, pod: &Pod, config: &Config) -> Result<Vec<Device>, Failure> {
    let named = config.device.as_ref();
    let chained = config.previous.is_some();
    match named {
        Some(id) if !is_known(host, id)? => {
            return Err(Failure::new(NO_SUCH_DEVICE, format!("the plugin advertises no device {id}")));
        }
        // A node without our devices pays nothing for the chain.
        None if chained && has_none(host)? => return Ok(Vec::new()),
        _ => {}
    }
    let mine = ours(host, &podresources::devices(host, pod)?)?;
    choose(pod, mine, named, chained)
}

/// A device is the plugin's while it is described, and from its first allocation on: descriptors are gone after a
/// reboot until the plugin is up, records are not.
fn is_known(host: &Host, id: &DeviceId) -> Result<bool, Failure> {
    Ok(descriptor::read_device(host, id)?.is_some() || allocation::read(host, id)?.is_some())
}

fn has_none(host: &Host) -> host::Result<bool> {
    Ok(descriptor::ids(host)?.is_empty() && allocation::ids(host)?.is_empty())
}

/// Those of a pod's devices that are the plugin's by their descriptor or their record.
///
/// One of these that can't be read, is missing, or says otherwise than the kubelet, is no reason to let the pod start
/// unwired.
fn ours(host: &Host, held: &[Held]) -> Result<Vec<Device>, Failure> {
    let mut ours = Vec::new();
    for Held { resource, id } in held {
        let Ok(id) = id.parse() else { continue };
        match (descriptor::read_device(host, &id)?, allocation::read(host, &id)?) {
            (Some(device), _) if device.resource != *resource => {
                let msg = format!(
                    "the kubelet gave {id} as {resource}, and the plugin has it as {}",
                    device.resource
                );
                return Err(Failure::new(NOT_ELIGIBLE, msg));
            }
            (Some(device), Some(record)) => {
                let stale = |stale: allocation::Stale| Failure::new(NOT_ELIGIBLE, stale.to_string());
                record.holds(resource, &device.nodes).map_err(stale)?;
                ours.push(device);
            }
            (Some(_), None) => {
                return Err(Failure::new(NOT_ELIGIBLE, NoRecord::absent(id).to_string()));
            }
            (None, Some(record)) if record.resource == *resource => {
                let msg = format!(
                    "device {id} of {resource} is not described: the plugin has not published it since boot, or \
                     its pool is gone"
                );
                return Err(Failure::new(code::TRY_AGAIN, msg));
            }
            // Another plugin's.
            (None, _) => {}
        }
    }
    ours.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(ours)
}

fn choose(
    pod: &Pod,
    mut mine: Vec<Device>,
    named: Option<&DeviceId>,
    chained: bool,
) -> Result<Vec<Device>, Failure> {
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
pub(crate) mod tests;
