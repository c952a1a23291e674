//! ADD: whose devices → verify → claim → trial mapping → addresses → attach → result.
//!
//! Every device goes through each step before the next step begins, so whatever can be refused is refused before
//! anything is written but our claims; a failure gives those back.

use doorbell_common::claim::Holder;
use doorbell_common::formats::cni::{AddResult, code};
use doorbell_common::formats::descriptor::Device;
use doorbell_common::formats::devinfo::DeviceInfo;
use doorbell_common::host::Host;
use doorbell_common::kernel::memory;
use doorbell_common::subdevice::Eligible;
use doorbell_common::trial;

use crate::call::Call;
use crate::config::Config;
use crate::failure::Failure;
use crate::hold::Hold;
use crate::ipam::{Ipam, Lease};
use crate::{device, whose};

/// Wires the pod's devices; gives the result document.
pub fn add(host: &Host, call: &Call, config: &Config, stdin: &[u8]) -> Result<String, Failure> {
    let Some(pod) = &call.pod else {
        return Err(Failure::new(
            code::BAD_ENVIRONMENT,
            "CNI_ARGS names no pod: K8S_POD_NAMESPACE and K8S_POD_NAME are needed",
        ));
    };
    let ipam = config.ipam.as_ref().map(|name| Ipam::find(host, name, call, stdin)).transpose()?;
    let devices = whose::devices(host, pod, config)?;
    config.fits(devices.len())?;
    let page = memory::page_size()
        .map_err(|errno| Failure::new(code::IO, "ask for the page size").because(&errno))?;
    let verified = each(&devices, |device| device::verify(host, device, page))?;

    let holder = Holder {
        network: config.network.clone(),
        container_id: call.container_id.clone(),
        interface: call.interface.clone(),
        netns: call.netns.clone(),
        pod: pod.clone(),
    };
    // Dropped unkept, a hold gives its device back.
    let mut holds = each(&verified, |device: &Eligible| Hold::take(host, &device.id, holder.clone()))?;
    let proofs = each(&verified, |device| Ok(trial::prove(host, device, page)?))?;
    // Dropped unkept, before the holds, a lease is given back.
    let lease = ipam.as_ref().map(Ipam::add).transpose()?;
    let ips = lease.as_ref().map_or(&config.ips, |lease| &lease.addresses);
    for ((hold, proof), device) in holds.iter_mut().zip(&proofs).zip(&verified) {
        let mac = config.mac.map(|mac| mac.to_string());
        device::attach(host, hold, proof, &call.interface, mac, ips)?;
        // At most one device: that is checked above.
        if let (Some(file), Some(info)) = (&config.device_info, DeviceInfo::of(device)) {
            file.write(host, hold, &info)?;
        }
    }
    let result = result(call, config, &devices, lease.as_ref());
    lease.into_iter().for_each(Lease::keep);
    holds.into_iter().for_each(Hold::keep);
    Ok(result)
}

fn each<T, U>(items: &[T], step: impl FnMut(&T) -> Result<U, Failure>) -> Result<Vec<U>, Failure> {
    items.iter().map(step).collect()
}

/// Chained, the interfaces and addresses are the others', and their document goes on byte for byte; alone, the device
/// is the attachment's one interface, with what the IPAM plugin gave.
fn result(call: &Call, config: &Config, devices: &[Device], lease: Option<&Lease<'_>>) -> String {
    match &config.previous {
        Some(previous) => previous.get().to_owned(),
        None => {
            let pci_id =
                devices.first().and_then(|device| device.pci_address).map(|address| address.to_string());
            let result = AddResult::one(&config.cni_version, &call.interface, &call.netns, pci_id);
            match lease {
                Some(lease) => result.with(&lease.answer).document(),
                None => result.document(),
            }
        }
    }
}
