//! The registers in a plain file: what is written stays, so that the file is a device that agrees to everything, with
//! both halves of its features alike.

use std::fs::File;
use std::os::unix::fs::FileExt;

use doorbell_common::doorbell::Granularity;

use super::*;
use crate::virtio::Virtio;

const COMMON: u32 = 0x40;
const DEVICE: u32 = 0x100;
const NOTIFY: u32 = 0x1000;
/// Bits 0, 1 and 5 in both halves: VERSION_1, ACCESS_PLATFORM and MAC among them.
const FEATURES: u32 = 0x23;
/// ACKNOWLEDGE, DRIVER and FEATURES_OK; and DRIVER_OK as well.
const AGREED: u8 = 0b1011;
const RUNNING: u8 = 0b1111;

fn device() -> (Pci, File) {
    let file = tempfile::tempfile().unwrap();
    file.set_len(0x2000).unwrap();
    file.write_all_at(&FEATURES.to_le_bytes(), u64::from(COMMON + DEVICE_FEATURE)).unwrap();
    file.write_all_at(&256u16.to_le_bytes(), u64::from(COMMON + QUEUE_SIZE)).unwrap();
    file.write_all_at(&3u16.to_le_bytes(), u64::from(COMMON + QUEUE_NOTIFY_OFF)).unwrap();
    file.write_all_at(&[0x52, 0x54, 0, 0xaa, 0, 1], u64::from(DEVICE)).unwrap();
    let region = Region::over(file.try_clone().unwrap(), 0x2000);
    let area = |offset| Area { bar: 4, offset, length: 0x40 };
    let place =
        Place { region: 4, offset: NOTIFY, length: 0x1000, stride: 4, granularity: Granularity::Device };
    let notify = NotifyArea::reach(&place, &region, 0x1000, By::Mapped).unwrap();
    (Pci::new((region.clone(), area(COMMON)), (region, area(DEVICE)), notify).unwrap(), file)
}

fn bytes<const N: usize>(file: &File, at: u32) -> [u8; N] {
    let mut bytes = [0; N];
    file.read_exact_at(&mut bytes, u64::from(at)).unwrap();
    bytes
}

#[test]
fn a_device_comes_up_by_its_registers() {
    let (pci, file) = device();
    let virtio = Virtio::new(pci);
    virtio.reset().unwrap();
    assert_eq!(virtio.negotiate(&[(1 << 5, "a feature")]).unwrap(), 1 << 5 | 1 << 32 | 1 << 33);
    assert_eq!(bytes(&file, COMMON + DEVICE_STATUS), [AGREED]);
    let mut mac = [0; 6];
    virtio.transport().read_config(0, &mut mac).unwrap();
    assert_eq!(mac, [0x52, 0x54, 0, 0xaa, 0, 1]);
    assert_eq!(virtio.transport().queue_limit(1).unwrap(), 256);
    let at = Addresses { descriptors: 0x1_0000_1000, available: 0x2000, used: 0x3000 };
    let mut bell = virtio.transport().enable_queue(1, 64, at).unwrap();
    virtio.start().unwrap();
    bell.ring().unwrap();

    assert_eq!(u16::from_le_bytes(bytes(&file, COMMON + QUEUE_SELECT)), 1);
    assert_eq!(u16::from_le_bytes(bytes(&file, COMMON + QUEUE_SIZE)), 64);
    assert_eq!(u64::from_le_bytes(bytes(&file, COMMON + QUEUE_DESC)), 0x1_0000_1000);
    assert_eq!(u64::from_le_bytes(bytes(&file, COMMON + QUEUE_DRIVER)), 0x2000);
    assert_eq!(u64::from_le_bytes(bytes(&file, COMMON + QUEUE_DEVICE)), 0x3000);
    assert_eq!(u16::from_le_bytes(bytes(&file, COMMON + QUEUE_ENABLE)), 1);
    assert_eq!(u16::from_le_bytes(bytes(&file, NOTIFY + 3 * 4)), 1, "rung at its notify_off");
    assert_eq!(bytes(&file, COMMON + DEVICE_STATUS), [RUNNING]);
    virtio.reset().unwrap();
    assert_eq!(bytes(&file, COMMON + DEVICE_STATUS), [0]);
}

#[test]
fn a_short_common_configuration_is_refused() {
    let (Pci { notify, .. }, _) = device();
    let region = Region::over(tempfile::tempfile().unwrap(), 0x200);
    let area = Area { bar: 4, offset: 0, length: 0x20 };
    assert!(Pci::new((region.clone(), area), (region, area), notify).is_err());
}
