//! What a network VF says of itself, by its open device (virtio 1.3, 5.1.3 and 5.1.4).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::ioctl;
use crate::error::chain;
use crate::host::Host;
use crate::kernel::mac::MacAddress;
use crate::kernel::pci::{ConfigSpace, PciAddress};
use crate::kernel::virtio_pci::{self, Extent, Holds};

/// Virtio device type of a network device.
const NETWORK: u16 = 1;
/// Feature bits `VIRTIO_NET_F_MTU` and `VIRTIO_NET_F_MAC`.
const HAS_MTU: u32 = 1 << 3;
const HAS_MAC: u32 = 1 << 5;
/// `device_feature_select` and `device_feature` in the common configuration (virtio 1.3, 4.1.4.3).
const FEATURE_SELECT: u64 = 0;
const FEATURE: u64 = 4;
/// `mtu` in the device configuration; `mac` is at its start.
const MTU: u64 = 10;

/// What it says. All is absent where it is no network device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Network {
    /// Its MAC address.
    pub mac: Option<MacAddress>,
    /// Bytes of the largest packet that it takes.
    pub mtu: Option<u16>,
}

/// Asks an open function; why it did not say.
pub(super) fn ask(
    host: &Host,
    device: &File,
    address: PciAddress,
    virtio_type: Option<u16>,
) -> Result<Network, String> {
    if virtio_type != Some(NETWORK) {
        return Ok(Network::default());
    }
    let [common, own] = places(host, device, address)?;
    read(device, common, own).map_err(|error| format!("its registers can't be read: {error}"))
}

/// Where the common and the device configuration are in the open function.
fn places(host: &Host, device: &File, address: PciAddress) -> Result<[u64; 2], String> {
    let config = ConfigSpace::read(host, address).map_err(|error| chain(&error))?;
    let list = config.capabilities().map_err(|error| error.to_string())?;
    let extents = virtio_pci::layout(&config, &list).map_err(|error| error.to_string())?;
    let place = |holds: Holds| {
        // Of several the first is to be used (virtio 1.3, 4.1.4.1).
        let found = extents.iter().find(|extent| extent.holds == holds);
        let Extent { bar, start, .. } = found.ok_or_else(|| format!("nothing says where {holds} is"))?;
        let region = ioctl::region_info(device, u32::from(*bar));
        let region = region.map_err(|errno| format!("VFIO_DEVICE_GET_REGION_INFO: {errno}"))?;
        Ok::<_, String>(region.info.offset + start)
    };
    Ok([place(Holds::Common)?, place(Holds::Device)?])
}

/// Registers are little-endian; each is read by its own width.
fn read(device: &File, common: u64, own: u64) -> io::Result<Network> {
    device.write_all_at(&0u32.to_le_bytes(), common + FEATURE_SELECT)?;
    let mut features = [0; 4];
    device.read_exact_at(&mut features, common + FEATURE)?;
    let features = u32::from_le_bytes(features);
    let mut network = Network::default();
    if features & HAS_MAC != 0 {
        let mut mac = [0; 6];
        device.read_exact_at(&mut mac, own)?;
        network.mac = Some(mac.into());
    }
    if features & HAS_MTU != 0 {
        let mut mtu = [0; 2];
        device.read_exact_at(&mut mtu, own + MTU)?;
        network.mtu = Some(u16::from_le_bytes(mtu));
    }
    Ok(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMON: u64 = 0x40;
    const OWN: u64 = 0x80;

    /// A function of a file, with these features and a whole device configuration.
    fn function(features: u32) -> File {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&7u32.to_le_bytes(), COMMON + FEATURE_SELECT).unwrap();
        file.write_all_at(&features.to_le_bytes(), COMMON + FEATURE).unwrap();
        file.write_all_at(&[2, 0, 0, 0, 0, 1, 1, 0, 4, 0, 0x28, 0x23], OWN).unwrap();
        file
    }

    #[test]
    fn it_says_what_its_features_have() {
        let (mac, mtu) = (Some([2, 0, 0, 0, 0, 1].into()), Some(9000));
        for (features, network) in [
            (HAS_MAC | HAS_MTU | 1, Network { mac, mtu }),
            (HAS_MAC, Network { mac, mtu: None }),
            (HAS_MTU, Network { mac: None, mtu }),
            (!(HAS_MAC | HAS_MTU), Network::default()),
        ] {
            assert_eq!(read(&function(features), COMMON, OWN).unwrap(), network);
        }
    }

    #[test]
    fn the_first_feature_word_is_asked_for() {
        let device = function(0);
        read(&device, COMMON, OWN).unwrap();
        let mut selected = [9; 4];
        device.read_exact_at(&mut selected, COMMON + FEATURE_SELECT).unwrap();
        assert_eq!(selected, [0; 4]);
    }

    #[test]
    fn what_ends_too_soon_is_an_error() {
        let device = tempfile::tempfile().unwrap();
        assert!(read(&device, COMMON, OWN).is_err());
    }
}
