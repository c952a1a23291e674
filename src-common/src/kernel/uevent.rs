//! Uevents: what the kernel says when a device comes, goes, changes, is bound or unbound.
//!
//! A message is `ACTION@DEVPATH`, then `KEY=value` for each variable, all ended by NUL (`lib/kobject_uevent.c`). The
//! kernel sends to group 1 of every network namespace of the first user namespace; what udev makes of it goes to group 2.

use super::netlink::{Listener, NetlinkError, protocols};
use super::pci::PciAddress;

const GROUP: u32 = 1;

/// One uevent, as far as sub-devices can be concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uevent {
    /// What happened: `add`, `remove`, `bind`, `unbind`, `change`, `move`, …
    pub action: String,
    /// Of what subsystem: `pci`, `vdpa`, `vfio-dev`, …
    pub subsystem: String,
    /// The device's folder below `/sys`.
    pub devpath: String,
}

impl Uevent {
    /// Reads a message; `None` for one that is no uevent of a device.
    #[must_use]
    pub fn parse(message: &[u8]) -> Option<Self> {
        let mut words = message.split(|byte| *byte == 0).map(|word| str::from_utf8(word).ok());
        let (action, devpath) = words.next()??.split_once('@')?;
        let subsystem = words.flatten().find_map(|word| word.strip_prefix("SUBSYSTEM="))?;
        let is_path = devpath.starts_with('/') && !action.is_empty();
        is_path.then(|| Self {
            action: action.to_owned(),
            subsystem: subsystem.to_owned(),
            devpath: devpath.to_owned(),
        })
    }

    /// The PCI function that the device is, or hangs below; the bridges above it are not asked for.
    #[must_use]
    pub fn function(&self) -> Option<PciAddress> {
        self.devpath.rsplit('/').find_map(|name| name.parse().ok())
    }
}

/// Listens to uevents.
pub fn listen() -> Result<Listener, NetlinkError> {
    Listener::open(protocols::NETLINK_KOBJECT_UEVENT, GROUP)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VF: &str = "add@/devices/pci0000:00/0000:00:03.0/0000:01:00.1\0ACTION=add\0\
                      DEVPATH=/devices/pci0000:00/0000:00:03.0/0000:01:00.1\0SUBSYSTEM=pci\0SEQNUM=7\0";

    #[test]
    fn a_uevent_names_what_happened_to_which_function() {
        let uevent = Uevent::parse(VF.as_bytes()).unwrap();
        assert_eq!((uevent.action.as_str(), uevent.subsystem.as_str()), ("add", "pci"));
        assert_eq!(uevent.function(), "0000:01:00.1".parse().ok());
    }

    #[test]
    fn what_hangs_below_a_function_is_the_functions() {
        let message = "bind@/devices/pci0000:00/0000:01:00.1/vdpa0\0SUBSYSTEM=vdpa\0";
        assert_eq!(Uevent::parse(message.as_bytes()).unwrap().function(), "0000:01:00.1".parse().ok());
        let message = "add@/devices/virtual/vfio/12\0SUBSYSTEM=vfio\0";
        assert_eq!(Uevent::parse(message.as_bytes()).unwrap().function(), None);
    }

    #[test]
    fn udevs_messages_and_others_are_none() {
        for message in
            ["", "libudev\0\u{fe}\u{ed}", "add@/devices/x\0", "add@x\0SUBSYSTEM=pci\0", "@/x\0SUBSYSTEM=a"]
        {
            assert_eq!(Uevent::parse(message.as_bytes()), None, "{message:?}");
        }
    }

    proptest! {
        #[test]
        fn no_message_is_too_strange(message in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Uevent::parse(&message).map(|uevent| uevent.function());
        }

        #[test]
        fn a_damaged_message_is_read_or_not(at in 0..VF.len(), byte: u8) {
            let mut message = VF.as_bytes().to_vec();
            message[at] = byte;
            let _ = Uevent::parse(&message).map(|uevent| uevent.function());
        }
    }
}
