//! How a device gets into the VM of its sandbox: as an interface by a DAN file, or as a device of a container.
//!
//! Where Kata finds a DAN file it looks at no interface of the sandbox, so the file is written only where it says all that
//! the sandbox has: for networks of their own, while nothing but `lo` is up in the namespace.

use doorbell_common::claim::{self, Undo};
use doorbell_common::formats::cni::code;
use doorbell_common::formats::descriptor::{self, Device, IpPrefix, PlugBy, Vm};
use doorbell_common::formats::kata_dan::{self, KataRuntime, Nic, NotDan, SandboxId, Told};
use doorbell_common::host::{self, Host};
use doorbell_common::kernel::link::{self, LinkName, Route};
use doorbell_common::kernel::mac::MacAddress;
use doorbell_common::kernel::pci::PciAddress;
use doorbell_common::trial::Network;

use crate::attributes::Attributes;
use crate::call::Call;
use crate::failure::Failure;
use crate::hold::Hold;
use crate::netdev;

/// Bytes of the largest packet of an Ethernet that says nothing of it (`ETH_DATA_LEN` of linux/if_ether.h).
const MTU: u32 = 1500;

const LOOPBACK: &str = "lo";

/// How a device gets into its VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plug {
    /// As an interface.
    Dan(Dan),
    /// As a device of a container, for that reason.
    Device(String),
}

/// An interface that is to be in a sandbox's DAN file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dan {
    folder: String,
    sandbox: SandboxId,
    dialect: KataRuntime,
    name: LinkName,
    function: PciAddress,
}

/// What such an interface is to be.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// What the VF says of itself.
    pub own: Network,
    /// What is asked of it.
    pub asked: &'a Attributes,
    /// Whether its PF gave it the MAC address that is asked for.
    pub by_pf: bool,
    /// Its addresses.
    pub ips: &'a [IpPrefix],
    /// Routes by it.
    pub routes: &'a [Route],
}

/// How the device gets into its VM; `None` for one that goes into none. `chained` says that another plugin has made the
/// sandbox's network. Reads only.
pub fn plan(host: &Host, call: &Call, chained: bool, device: &Device) -> Result<Option<Plug>, Failure> {
    let Some(Vm { kata: dialect, dan_conf }) = &device.vm else { return Ok(None) };
    let as_device = |reason: &str| Ok(Some(Plug::Device(reason.to_owned())));
    let (Some(folder), Some(function)) = (dan_conf, device.pci_address) else {
        return as_device("its pool has no `danConf`");
    };
    let refused = |error: &kata_dan::NoSandboxId| {
        Failure::new(code::BAD_ENVIRONMENT, "CNI_CONTAINERID names no DAN file").because(error)
    };
    let sandbox = call.container_id.parse().map_err(|error| refused(&error))?;
    let name = call.link_name()?;
    if chained {
        return as_device(
            "its network is chained to another, and a DAN file would hide that one's interface",
        );
    }
    if let Some(other) = up_in(host, &call.netns)? {
        return as_device(&format!("a DAN file would hide interface {other} of the sandbox"));
    }
    Ok(Some(Plug::Dan(Dan { folder: folder.clone(), sandbox, dialect: *dialect, name, function })))
}

impl Plug {
    /// Whether it is an interface in the VM.
    #[must_use]
    pub fn is_interface(&self) -> bool {
        matches!(self, Self::Dan(_))
    }

    /// What the container is told of it.
    #[must_use]
    pub fn said(&self) -> descriptor::Plug {
        let (by, reason) = match self {
            Self::Dan(_) => (PlugBy::Dan, "it is the sandbox's network".to_owned()),
            Self::Device(reason) => (PlugBy::Device, reason.clone()),
        };
        descriptor::Plug { by, reason }
    }
}

impl Dan {
    /// Puts the interface into the sandbox's file. Gives bytes of its largest packet.
    pub fn write(&self, host: &Host, hold: &mut Hold<'_>, wanted: &Wanted<'_>) -> Result<u32, Failure> {
        let Self { folder, sandbox, dialect, name, function } = self;
        let mtu = self.mtu(wanted)?;
        let nic = Nic {
            name,
            mac: self.mac(wanted)?,
            function: *function,
            mtu,
            ips: wanted.ips,
            routes: wanted.routes,
            neighbors: &[],
        };
        let entry = nic.entry(*dialect).map_err(|error| bad(error.to_string()))?;
        let file = sandbox.file(folder);
        let step = claim::Dan { file: file.clone(), name: name.clone(), function: *function };
        hold.change(Undo::Dan(step), || {
            host.make_private_folder(folder)?;
            let _lock = claim::lock_shared(host, folder)?;
            let text = kata_dan::with(host.read_if_any(&file)?.as_deref(), entry);
            let text = text.map_err(|error| {
                Failure::new(code::IO, format!("{file} is there, and no DAN file")).because(&error)
            })?;
            Ok(host.replace_private(&file, &text)?)
        })?;
        Ok(mtu)
    }

    /// Kata's agent finds the interface in the guest by its address, and gives it none.
    fn mac(&self, wanted: &Wanted<'_>) -> Result<MacAddress, Failure> {
        let Wanted { own, asked, by_pf, .. } = *wanted;
        let function = self.function;
        match (asked.mac, own.mac) {
            (Some(asked), _) if by_pf => Ok(asked),
            (Some(asked), Some(own)) if asked != own => Err(bad(format!(
                "mac {asked} can't be had: VF {function} has {own}, its PF sets none, and in a guest nobody does"
            ))),
            (_, Some(own)) => Ok(own),
            (_, None) => Err(bad(format!(
                "VF {function} has no MAC address of its own, by which Kata's agent could find it in the guest"
            ))),
        }
    }

    fn mtu(&self, wanted: &Wanted<'_>) -> Result<u32, Failure> {
        let most = wanted.own.mtu.map(u32::from);
        match (wanted.asked.mtu, most) {
            (Some(asked), Some(most)) if asked > most => {
                Err(bad(format!("mtu {asked} can't be had: VF {} takes {most} at most", self.function)))
            }
            (asked, most) => Ok(asked.or(most).unwrap_or(MTU)),
        }
    }
}

/// Takes an interface out of its file, and away what says nothing then. A file that is none any more is left alone.
pub fn take_out(host: &Host, step: &claim::Dan) -> Result<(), Failure> {
    let claim::Dan { file, name, function } = step;
    let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
    if !host.exists(folder) {
        return Ok(());
    }
    let _lock = claim::lock_shared(host, folder)?;
    host.remove(host::unfinished(file))?;
    let Some(before) = host.read_if_any(file)? else { return Ok(()) };
    match kata_dan::without(&before, name, *function) {
        Ok(Some(left)) if left == before => Ok(()),
        Ok(Some(left)) => Ok(host.replace_private(file, &left)?),
        Ok(None) => Ok(host.remove(file)?),
        Err(NotDan::Json(_) | NotDan::NoDevices) => Ok(()),
    }
}

/// What is not as it is to be: the file says of the interface otherwise than its container was told, or hides another
/// interface of the sandbox, which came later. `None` where all is well.
pub fn differs(
    host: &Host,
    step: &claim::Dan,
    netns: &str,
    mac: Option<&str>,
    ips: &[IpPrefix],
) -> Result<Option<String>, Failure> {
    let claim::Dan { file, name, function } = step;
    let Some(text) = host.read_if_any(file)? else { return Ok(Some(format!("{file} is gone"))) };
    let told = match kata_dan::told(&text, name, *function) {
        Ok(Some(told)) => told,
        Ok(None) => return Ok(Some(format!("{file} does not have {name} of VF {function}"))),
        Err(error) => return Ok(Some(format!("{file} is no DAN file: {error}"))),
    };
    let ips = ips.iter().map(|IpPrefix { address, prefix }| format!("{address}/{prefix}")).collect();
    let was = Told { mac: mac.map(str::to_owned), ips };
    if told != was {
        return Ok(Some(format!("{file} has another address of {name}")));
    }
    Ok(up_in(host, netns)?.map(|other| format!("{file} hides interface {other} of the sandbox")))
}

/// An interface that is up in a sandbox, beside `lo`.
fn up_in(host: &Host, netns: &str) -> Result<Option<LinkName>, Failure> {
    let links = link::list(&mut netdev::open(&netdev::sandbox(host, netns)?)?)?;
    let other = links.into_iter().find(|link| link.up && link.name.as_str() != LOOPBACK);
    Ok(other.map(|link| link.name))
}

fn bad(msg: String) -> Failure {
    Failure::new(code::BAD_CONFIG, msg)
}

#[cfg(test)]
mod tests;
