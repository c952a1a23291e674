//! Bringing a virtio device up over PCI: virtio 1.3, section 3.1 (the order) and 4.1.4.3 (the registers).

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::capability::Area;
use crate::vfio::Region;

/// Feature bits (virtio 1.3, sections 5.1.3 and 6).
const NET_F_MAC: u64 = 1 << 5;
const F_VERSION_1: u64 = 1 << 32;
const F_ACCESS_PLATFORM: u64 = 1 << 33;
const F_ORDER_PLATFORM: u64 = 1 << 36;
/// Without these the device is not driven. A device that bypasses the platform's IOMMU is not isolated at all.
const REQUIRED: [(u64, &str); 3] = [
    (F_VERSION_1, "VIRTIO_F_VERSION_1"),
    (F_ACCESS_PLATFORM, "VIRTIO_F_ACCESS_PLATFORM, without which its DMA passes the IOMMU by"),
    (NET_F_MAC, "VIRTIO_NET_F_MAC"),
];

/// Device status bits (section 2.1).
const ACKNOWLEDGE: u8 = 1;
const DRIVER: u8 = 2;
const DRIVER_OK: u8 = 4;
const FEATURES_OK: u8 = 8;
const NEEDS_RESET: u8 = 64;

/// Offsets in `struct virtio_pci_common_cfg`.
const DEVICE_FEATURE_SELECT: u32 = 0;
const DEVICE_FEATURE: u32 = 4;
const DRIVER_FEATURE_SELECT: u32 = 8;
const DRIVER_FEATURE: u32 = 12;
const CONFIG_MSIX_VECTOR: u32 = 16;
const DEVICE_STATUS: u32 = 20;
const CONFIG_GENERATION: u32 = 21;
const QUEUE_SELECT: u32 = 22;
const QUEUE_SIZE: u32 = 24;
const QUEUE_MSIX_VECTOR: u32 = 26;
const QUEUE_ENABLE: u32 = 28;
const QUEUE_NOTIFY_OFF: u32 = 30;
const QUEUE_DESC: u32 = 32;
const QUEUE_DRIVER: u32 = 40;
const QUEUE_DEVICE: u32 = 48;
/// Bytes of the structure as far as it is used here.
const COMMON_LENGTH: u32 = 56;

/// `VIRTIO_MSI_NO_VECTOR`: the rings are polled.
const NO_VECTOR: u16 = 0xffff;
/// A device that has not finished its reset after this is broken.
const RESET_LIMIT: Duration = Duration::from_secs(2);

/// Where a queue's three parts lie, as the device sees them (section 2.7: descriptor table, available and used ring).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    pub(crate) descriptors: u64,
    pub(crate) available: u64,
    pub(crate) used: u64,
}

/// A virtio-net device behind its registers.
#[derive(Debug)]
pub(crate) struct Virtio {
    common: Registers,
    device: Registers,
}

impl Virtio {
    /// Over the regions that hold the common and the device-specific configuration.
    pub(crate) fn new(common: (Region, Area), device: (Region, Area)) -> Result<Self> {
        ensure!(
            common.1.length >= COMMON_LENGTH,
            "the common configuration has {} bytes, not {COMMON_LENGTH}",
            common.1.length
        );
        Ok(Self { common: Registers::new(common), device: Registers::new(device) })
    }

    /// Resets the device and waits until it says so (section 4.1.4.3.2).
    pub(crate) fn reset(&self) -> Result<()> {
        self.common.write_u8(DEVICE_STATUS, 0)?;
        let deadline = Instant::now() + RESET_LIMIT;
        loop {
            let status = self.common.read_u8(DEVICE_STATUS)?;
            if status == 0 {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the device still has status {status:#x} after its reset");
            sleep(Duration::from_millis(1));
        }
    }

    /// Acknowledges the device and agrees on features; the bits agreed on.
    pub(crate) fn negotiate(&self) -> Result<u64> {
        self.add_status(ACKNOWLEDGE)?;
        self.add_status(DRIVER)?;
        let offered = self.offered()?;
        for (bit, name) in REQUIRED {
            ensure!(offered & bit != 0, "the device offers features {offered:#x}, without {name}");
        }
        // Real hardware may want stronger barriers than an emulated device; ours are the strong ones anyway.
        let wanted = REQUIRED.iter().fold(offered & F_ORDER_PLATFORM, |features, (bit, _)| features | bit);
        for (select, half) in [(0, wanted), (1, wanted >> 32)] {
            self.common.write_u32(DRIVER_FEATURE_SELECT, select)?;
            self.common.write_u32(DRIVER_FEATURE, low(half))?;
        }
        self.add_status(FEATURES_OK)?;
        let status = self.common.read_u8(DEVICE_STATUS)?;
        ensure!(status & FEATURES_OK != 0, "the device refuses features {wanted:#x} (status {status:#x})");
        self.common.write_u16(CONFIG_MSIX_VECTOR, NO_VECTOR)?;
        Ok(wanted)
    }

    /// The MAC address (section 5.1.4), read until the configuration did not change in between.
    pub(crate) fn mac(&self) -> Result<[u8; 6]> {
        for _ in 0..16 {
            let before = self.common.read_u8(CONFIG_GENERATION)?;
            let mut mac = [0; 6];
            for (at, byte) in (0..).zip(&mut mac) {
                *byte = self.device.read_u8(at)?;
            }
            if self.common.read_u8(CONFIG_GENERATION)? == before {
                return Ok(mac);
            }
        }
        bail!("the device configuration kept changing while its MAC was read");
    }

    /// The most descriptors that a queue may have.
    pub(crate) fn queue_limit(&self, queue: u16) -> Result<u16> {
        self.common.write_u16(QUEUE_SELECT, queue)?;
        let limit = self.common.read_u16(QUEUE_SIZE)?;
        ensure!(limit > 0, "the device has no queue {queue}");
        Ok(limit)
    }

    /// Sets a queue up, without interrupts, and enables it; its `queue_notify_off`.
    pub(crate) fn enable_queue(&self, queue: u16, size: u16, at: Addresses) -> Result<u16> {
        self.common.write_u16(QUEUE_SELECT, queue)?;
        self.common.write_u16(QUEUE_SIZE, size)?;
        self.common.write_u16(QUEUE_MSIX_VECTOR, NO_VECTOR)?;
        let parts = [(QUEUE_DESC, at.descriptors), (QUEUE_DRIVER, at.available), (QUEUE_DEVICE, at.used)];
        for (register, address) in parts {
            // 64-bit fields are taken in two 32-bit halves (section 4.1.3.1).
            self.common.write_u32(register, low(address))?;
            self.common.write_u32(register + 4, low(address >> 32))?;
        }
        let notify_off = self.common.read_u16(QUEUE_NOTIFY_OFF)?;
        self.common.write_u16(QUEUE_ENABLE, 1)?;
        Ok(notify_off)
    }

    /// Lets the device go: from here on it uses the queues.
    pub(crate) fn start(&self) -> Result<()> {
        self.add_status(DRIVER_OK)?;
        let status = self.common.read_u8(DEVICE_STATUS)?;
        ensure!(
            status & NEEDS_RESET == 0,
            "the device wants a reset right after its start (status {status:#x})"
        );
        Ok(())
    }

    fn offered(&self) -> Result<u64> {
        let mut features = 0;
        for select in [0, 1] {
            self.common.write_u32(DEVICE_FEATURE_SELECT, select)?;
            features |= u64::from(self.common.read_u32(DEVICE_FEATURE)?) << (32 * select);
        }
        Ok(features)
    }

    fn add_status(&self, bit: u8) -> Result<()> {
        let status = self.common.read_u8(DEVICE_STATUS)?;
        self.common.write_u8(DEVICE_STATUS, status | bit)
    }
}

/// One structure's registers, little-endian, each accessed in its own width (section 4.1.3.1).
#[derive(Debug)]
struct Registers {
    region: Region,
    area: Area,
}

impl Registers {
    fn new((region, area): (Region, Area)) -> Self {
        Self { region, area }
    }

    fn read_u8(&self, at: u32) -> Result<u8> {
        Ok(u8::from_le_bytes(self.read(at)?))
    }

    fn read_u16(&self, at: u32) -> Result<u16> {
        Ok(u16::from_le_bytes(self.read(at)?))
    }

    fn read_u32(&self, at: u32) -> Result<u32> {
        Ok(u32::from_le_bytes(self.read(at)?))
    }

    fn write_u8(&self, at: u32, value: u8) -> Result<()> {
        self.write(at, &value.to_le_bytes())
    }

    fn write_u16(&self, at: u32, value: u16) -> Result<()> {
        self.write(at, &value.to_le_bytes())
    }

    fn write_u32(&self, at: u32, value: u32) -> Result<()> {
        self.write(at, &value.to_le_bytes())
    }

    fn read<const N: usize>(&self, at: u32) -> Result<[u8; N]> {
        self.region.read(u64::from(self.area.offset) + u64::from(at))
    }

    fn write(&self, at: u32, bytes: &[u8]) -> Result<()> {
        self.region.write(u64::from(self.area.offset) + u64::from(at), bytes)
    }
}

/// The low half.
fn low(value: u64) -> u32 {
    (value & u64::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests;
