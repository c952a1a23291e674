//! Bring-up over a plain file: what is written stays, so that the file is a device that agrees to everything, with
//! both halves of its features alike.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::*;

const COMMON: u32 = 0x40;
const DEVICE: u32 = 0x100;
/// Bits 0, 1 and 5 in both halves: VERSION_1, ACCESS_PLATFORM and MAC among them.
const FEATURES: u32 = 0x23;

fn device(features: u32) -> (Virtio, File) {
    let file = tempfile::tempfile().unwrap();
    file.set_len(0x200).unwrap();
    file.write_all_at(&features.to_le_bytes(), u64::from(COMMON + DEVICE_FEATURE)).unwrap();
    file.write_all_at(&256u16.to_le_bytes(), u64::from(COMMON + QUEUE_SIZE)).unwrap();
    file.write_all_at(&3u16.to_le_bytes(), u64::from(COMMON + QUEUE_NOTIFY_OFF)).unwrap();
    file.write_all_at(&[0x52, 0x54, 0, 0xaa, 0, 1], u64::from(DEVICE)).unwrap();
    let region = Region::over(file.try_clone().unwrap(), 0x200);
    let area = |offset| Area { bar: 4, offset, length: 0x40 };
    (Virtio::new((region.clone(), area(COMMON)), (region, area(DEVICE))).unwrap(), file)
}

fn bytes<const N: usize>(file: &File, register: u32) -> [u8; N] {
    let mut bytes = [0; N];
    file.read_exact_at(&mut bytes, u64::from(COMMON + register)).unwrap();
    bytes
}

#[test]
fn a_device_comes_up_in_the_order_of_the_specification() {
    let (virtio, file) = device(FEATURES);
    virtio.reset().unwrap();
    assert_eq!(virtio.negotiate().unwrap(), NET_F_MAC | F_VERSION_1 | F_ACCESS_PLATFORM);
    assert_eq!(bytes(&file, DEVICE_STATUS), [ACKNOWLEDGE | DRIVER | FEATURES_OK]);
    assert_eq!(virtio.mac().unwrap(), [0x52, 0x54, 0, 0xaa, 0, 1]);
    assert_eq!(virtio.queue_limit(1).unwrap(), 256);
    let at = Addresses { descriptors: 0x1_0000_1000, available: 0x2000, used: 0x3000 };
    assert_eq!(virtio.enable_queue(1, 64, at).unwrap(), 3);
    virtio.start().unwrap();

    assert_eq!(u16::from_le_bytes(bytes(&file, QUEUE_SELECT)), 1);
    assert_eq!(u16::from_le_bytes(bytes(&file, QUEUE_SIZE)), 64);
    assert_eq!(u64::from_le_bytes(bytes(&file, QUEUE_DESC)), 0x1_0000_1000);
    assert_eq!(u64::from_le_bytes(bytes(&file, QUEUE_DRIVER)), 0x2000);
    assert_eq!(u64::from_le_bytes(bytes(&file, QUEUE_DEVICE)), 0x3000);
    assert_eq!(u16::from_le_bytes(bytes(&file, QUEUE_ENABLE)), 1);
    assert_eq!(bytes(&file, DEVICE_STATUS), [ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK]);
    virtio.reset().unwrap();
    assert_eq!(bytes(&file, DEVICE_STATUS), [0]);
}

#[test]
fn a_device_past_the_iommu_is_refused() {
    let (virtio, _file) = device(FEATURES & !2);
    let error = virtio.negotiate().unwrap_err().to_string();
    assert!(error.contains("VIRTIO_F_ACCESS_PLATFORM"), "{error}");
}

#[test]
fn a_short_common_configuration_is_refused() {
    let region = Region::over(tempfile::tempfile().unwrap(), 0x200);
    let area = Area { bar: 4, offset: 0, length: 0x20 };
    assert!(Virtio::new((region.clone(), area), (region, area)).is_err());
}
