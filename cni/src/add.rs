//! ADD: whose devices → verify → claim → trial mapping → addresses → wire → result.
//!
//! Every device goes through each step before the next step begins, so whatever can be refused is refused before
//! anything is written but our claims; a failure gives those back.

use doorbell_common::claim::{self, Holder};
use doorbell_common::formats::cni::{AddResult, Interface, PreviousResult, code};
use doorbell_common::formats::descriptor::{self, IpPrefix};
use doorbell_common::formats::devinfo::DeviceInfo;
use doorbell_common::host::Host;
use doorbell_common::kernel::link::Route;
use doorbell_common::kernel::memory;
use doorbell_common::kernel::netns::Netns;
use doorbell_common::subdevice::Eligible;
use doorbell_common::trial::{self, Proof};

use crate::call::Call;
use crate::config::Config;
use crate::failure::Failure;
use crate::hold::Hold;
use crate::ipam::{Ipam, Lease};
use crate::netdev::{self, Found, Wanted};
use crate::vm::{self, Plug};
use crate::{device, status, vf, whose};

/// What came of an ADD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Added {
    /// The result.
    pub document: String,
    /// How many devices were wired.
    pub devices: usize,
}

/// Wires the pod's devices.
pub fn add(host: &Host, call: &Call, config: &Config, stdin: &[u8]) -> Result<Added, Failure> {
    let Some(pod) = &call.pod else {
        return Err(Failure::new(
            code::BAD_ENVIRONMENT,
            "CNI_ARGS names no pod: K8S_POD_NAMESPACE and K8S_POD_NAME are needed",
        ));
    };
    let ipam = config.ipam.as_ref().map(|name| Ipam::find(host, name, call, stdin)).transpose()?;
    let devices = whose::devices(host, pod, config)?;
    config.fits(devices.len())?;
    if !devices.is_empty() {
        [claim::FOLDER, descriptor::HOST_FOLDER].iter().try_for_each(|folder| status::room(host, folder))?;
    }
    let page = memory::page_size()
        .map_err(|errno| Failure::new(code::IO, "ask for the page size").because(&errno))?;
    let verified = each(&devices, |device| device::verify(host, device, page))?;
    let plugs = each(&devices, |device| vm::plan(host, call, config.previous.is_some(), device))?;
    for (device, plug) in verified.iter().zip(&plugs) {
        config.attributes.fit(device, plug.as_ref().is_some_and(Plug::is_interface))?;
    }
    let chain = Chain::of(config, &verified)?;
    let is_netdev = |device: &Eligible| device.access.is_netdev();
    let sandbox = verified.iter().any(is_netdev).then(|| netdev::sandbox(host, &call.netns)).transpose()?;

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
    let netdevs = each(&verified, |device| netdev::find(host, device))?;
    // Dropped unkept, before the holds, a lease is given back.
    let lease = ipam.as_ref().map(Ipam::add).transpose()?;
    let (ips, routes) =
        lease.as_ref().map_or((&config.ips[..], &[][..]), |lease| (&lease.addresses[..], &lease.routes[..]));

    let wiring = Wiring { host, call, config, sandbox, ips, routes };
    let mut interfaces = Vec::new();
    let shown = proofs.iter().zip(&netdevs).zip(&plugs);
    for ((hold, device), ((proof, found), plug)) in holds.iter_mut().zip(&verified).zip(shown) {
        interfaces.push(wiring.wire(hold, device, proof, found.as_ref(), plug.as_ref())?);
    }
    let document = match chain {
        Chain::Untouched(previous) => previous,
        Chain::Added(previous) => {
            let netdevs = interfaces.into_iter().zip(&netdevs).filter(|(_, found)| found.is_some());
            let added = netdevs.map(|(interface, _)| interface.in_version(&config.cni_version));
            previous.with(&added.collect::<Vec<_>>())
        }
        Chain::None => alone(config, interfaces, lease.as_ref()),
    };
    lease.into_iter().for_each(Lease::keep);
    holds.into_iter().for_each(Hold::keep);
    Ok(Added { document, devices: verified.len() })
}

fn each<T, U>(items: &[T], step: impl FnMut(&T) -> Result<U, Failure>) -> Result<Vec<U>, Failure> {
    items.iter().map(step).collect()
}

/// The result of the plugin before us, and what becomes of it.
enum Chain {
    /// There is none.
    None,
    /// It goes on byte for byte: the pod gets no interface of ours.
    Untouched(String),
    /// It goes on with interfaces added.
    Added(PreviousResult),
}

impl Chain {
    fn of(config: &Config, devices: &[Eligible]) -> Result<Self, Failure> {
        let Some(previous) = &config.previous else { return Ok(Self::None) };
        if !devices.iter().any(|device| device.access.is_netdev()) {
            return Ok(Self::Untouched(previous.get().to_owned()));
        }
        let unreadable = || Failure::new(code::DECODE, "prevResult can't be read as a result");
        PreviousResult::parse(previous).map(Self::Added).map_err(|error| unreadable().because(&error))
    }
}

/// The result of a network of its own: the device is its one interface, with what the IPAM plugin gave.
fn alone(config: &Config, interfaces: Vec<Interface>, lease: Option<&Lease<'_>>) -> String {
    let interface = interfaces.into_iter().next().expect("a network of its own stands for one device");
    let result = AddResult::one(&config.cni_version, interface);
    match lease {
        Some(lease) => result.with(&lease.answer).document(),
        None => result.document(),
    }
}

/// All that is the same for each device of an ADD.
struct Wiring<'a> {
    host: &'a Host,
    call: &'a Call,
    config: &'a Config,
    /// The pod's network namespace, where an interface goes there.
    sandbox: Option<Netns>,
    ips: &'a [IpPrefix],
    routes: &'a [Route],
}

impl Wiring<'_> {
    /// Makes the device what is asked of it, has the pod get it, and tells whom it concerns.
    fn wire(
        &self,
        hold: &mut Hold<'_>,
        device: &Eligible,
        proof: &Proof,
        found: Option<&Found>,
        plug: Option<&Plug>,
    ) -> Result<Interface, Failure> {
        let Self { host, call, config, sandbox, ips, routes } = self;
        let asked = &config.attributes;
        let by_pf = vf::set(host, hold, device, asked, found)?.is_some();
        let (name, mac, mut mtu) = match (found, sandbox) {
            (Some(found), Some(sandbox)) => {
                let own = call.link_name()?;
                // In a chain that name is the interface of the plugin before us.
                let name = config.previous.is_none().then_some(&own);
                let wanted = Wanted { name, mac: asked.mac, by_pf, mtu: asked.mtu, ips, routes };
                let link = netdev::move_in(host, hold, found, sandbox, &wanted)?;
                (link.name.to_string(), link.mac, Some(link.mtu))
            }
            _ => (call.interface.clone(), asked.mac.or(proof.network().ok().and_then(|own| own.mac)), None),
        };
        if let Some(Plug::Dan(dan)) = plug {
            let silent = |why| {
                Failure::new(code::IO, format!("VF {} does not say what it is", device.id)).with_details(why)
            };
            let own = proof.network().map_err(silent)?;
            let wanted = vm::Wanted { own, asked, by_pf, ips, routes };
            mtu = Some(dan.write(host, hold, &wanted)?);
        }
        let mac = mac.map(|mac| mac.to_string());
        device::attach(host, hold, proof, &name, mac.clone(), plug, ips)?;
        // At most one device: that is checked above.
        if let (Some(file), Some(info)) = (&config.device_info, DeviceInfo::of(device)) {
            file.write(host, hold, &info)?;
        }
        let pci_id = device.function.map(|address| address.to_string());
        Ok(Interface { name, mac, mtu, sandbox: call.netns.clone(), pci_id })
    }
}

#[cfg(test)]
mod disk;
#[cfg(test)]
pub(crate) mod tests;
