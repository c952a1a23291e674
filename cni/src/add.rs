//! ADD: whose device → verify → claim → act → result. Everything that can be refused is refused before the first
//! change; a failure behind it undoes what was done.

use doorbell_common::claim::Holder;
use doorbell_common::formats::cni::{AddResult, NetConf, code};
use doorbell_common::formats::descriptor::Device;
use doorbell_common::host::Host;
use nix::unistd::{SysconfVar, sysconf};
use serde_json::Value;

use crate::call::Call;
use crate::failure::Failure;
use crate::hold::Hold;
use crate::{vfio, whose};

/// Wires the pod's devices; the result of the plugin before us goes on as it came.
pub fn add(host: &Host, call: &Call, conf: &NetConf) -> Result<Value, Failure> {
    let Some(pod) = &call.pod else {
        return Err(Failure::new(code::BAD_ENVIRONMENT, "CNI_ARGS names no pod"));
    };
    let devices = whose::devices(host, pod, conf)?;
    let page = page_size()?;
    let verified: Vec<vfio::Verified> =
        devices.iter().map(|device| vfio::verify(host, device, page)).collect::<Result<_, _>>()?;

    let holder = Holder {
        network: conf.name.clone(),
        container_id: call.container_id.clone(),
        interface: call.interface.clone(),
        pod: pod.clone(),
    };
    // Dropped unkept, the holds undo: the first failure takes back the devices wired before it.
    let mut holds = Vec::new();
    for device in verified {
        let mut hold = Hold::take(host, device.id(), holder.clone())?;
        vfio::wire(host, &mut hold, &device, call, conf)?;
        holds.push(hold);
    }
    let result = result(call, conf, &devices);
    holds.into_iter().for_each(Hold::keep);
    Ok(result)
}

/// Chained, the interfaces and addresses are the others'; alone, the device is the attachment's one interface.
fn result(call: &Call, conf: &NetConf, devices: &[Device]) -> Value {
    match (&conf.prev_result, devices.first()) {
        (Some(previous), _) => previous.clone(),
        (None, device) => {
            let pci_id = device.map(|device| device.pci_address.to_string());
            let mac = conf.runtime_config.mac.clone();
            serde_json::json!(AddResult::one(&conf.cni_version, &call.interface, &call.netns, mac, pci_id))
        }
    }
}

fn page_size() -> Result<u64, Failure> {
    let unknown = || Failure::new(code::IO, "the system has no page size");
    let size = sysconf(SysconfVar::PAGE_SIZE).map_err(|errno| unknown().because(&errno))?;
    size.and_then(|size| u64::try_from(size).ok()).ok_or_else(unknown)
}
