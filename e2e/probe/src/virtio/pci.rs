//! A virtio device over PCI, by the registers of its function: virtio 1.3, section 4.1.4.

use anyhow::{Context, Result, bail, ensure};

use crate::capability::{self, Area, CONFIG_LENGTH};
use crate::descriptor::Place;
use crate::dma::page_size;
use crate::doorbell::Bell;
use crate::doorbell::area::{self, NotifyArea};
use crate::report::By;
use crate::vfio::{Function, Region};
use crate::virtio::{Addresses, Transport};

/// VFIO's index of the config space (`VFIO_PCI_CONFIG_REGION_INDEX`).
const CONFIG_REGION: u32 = 7;
/// PCI command register, with memory space and bus master (PCI 3.0, section 6.2.2).
const COMMAND: u64 = 0x04;
const COMMAND_MEMORY_AND_MASTER: u16 = 0b110;

/// Offsets in `struct virtio_pci_common_cfg` (section 4.1.4.3).
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
/// Readings of a configuration that keeps changing.
const READINGS: u32 = 16;

/// The registers of a device, and its notify area.
#[derive(Debug)]
pub(crate) struct Pci {
    common: Registers,
    device: Registers,
    notify: NotifyArea,
}

impl Pci {
    /// Finds the registers of a function, and the doorbell, which must be where the descriptor says, to be rung by `by`.
    pub(crate) fn open(function: &Function, place: &Place, by: By) -> Result<Self> {
        function.check()?;
        let config = function.region(CONFIG_REGION)?;
        let structures =
            capability::parse(&config.read::<CONFIG_LENGTH>(0)?).context("read the capabilities")?;
        let bar = |area: Area| function.region(u32::from(area.bar));
        let page = page_size()?;
        let (notify, region) = structures
            .notify
            .iter()
            .find_map(|notify| Some((notify, bar(notify.area).ok().filter(Region::mappable)?)))
            .context("no notify area of the device lies in a BAR that may be mapped")?;
        area::check(place, notify, page)?;

        // Memory decode before any register, or the access faults.
        let command = u16::from_le_bytes(config.read(COMMAND)?) | COMMAND_MEMORY_AND_MASTER;
        config.write(COMMAND, &command.to_le_bytes()).context("enable memory and bus master")?;
        Self::new(
            (bar(structures.common)?, structures.common),
            (bar(structures.device)?, structures.device),
            NotifyArea::reach(place, &region, page, by)?,
        )
    }

    /// Over the regions that hold the common and the device-specific configuration.
    fn new(common: (Region, Area), device: (Region, Area), notify: NotifyArea) -> Result<Self> {
        ensure!(
            common.1.length >= COMMON_LENGTH,
            "the common configuration has {} bytes, not {COMMON_LENGTH}",
            common.1.length
        );
        Ok(Self { common: Registers::new(common), device: Registers::new(device), notify })
    }
}

impl Transport for Pci {
    fn status(&self) -> Result<u8> {
        self.common.read_u8(DEVICE_STATUS)
    }

    fn set_status(&self, status: u8) -> Result<()> {
        self.common.write_u8(DEVICE_STATUS, status)
    }

    fn offered(&self) -> Result<u64> {
        let mut features = 0;
        for select in [0, 1] {
            self.common.write_u32(DEVICE_FEATURE_SELECT, select)?;
            features |= u64::from(self.common.read_u32(DEVICE_FEATURE)?) << (32 * select);
        }
        Ok(features)
    }

    fn accept(&self, features: u64) -> Result<()> {
        for (select, half) in [(0, features), (1, features >> 32)] {
            self.common.write_u32(DRIVER_FEATURE_SELECT, select)?;
            self.common.write_u32(DRIVER_FEATURE, low(half))?;
        }
        self.common.write_u16(CONFIG_MSIX_VECTOR, NO_VECTOR)
    }

    fn read_config(&self, at: u32, bytes: &mut [u8]) -> Result<()> {
        for _ in 0..READINGS {
            let before = self.common.read_u8(CONFIG_GENERATION)?;
            for (at, byte) in (at..).zip(bytes.iter_mut()) {
                *byte = self.device.read_u8(at)?;
            }
            if self.common.read_u8(CONFIG_GENERATION)? == before {
                return Ok(());
            }
        }
        bail!("the device configuration kept changing while it was read");
    }

    fn queue_limit(&self, queue: u16) -> Result<u16> {
        self.common.write_u16(QUEUE_SELECT, queue)?;
        let limit = self.common.read_u16(QUEUE_SIZE)?;
        ensure!(limit > 0, "the device has no queue {queue}");
        Ok(limit)
    }

    fn enable_queue(&self, queue: u16, size: u16, at: Addresses) -> Result<Bell> {
        self.common.write_u16(QUEUE_SELECT, queue)?;
        self.common.write_u16(QUEUE_SIZE, size)?;
        self.common.write_u16(QUEUE_MSIX_VECTOR, NO_VECTOR)?;
        let parts = [(QUEUE_DESC, at.descriptors), (QUEUE_DRIVER, at.available), (QUEUE_DEVICE, at.used)];
        for (register, address) in parts {
            // 64-bit fields are taken in two 32-bit halves (section 4.1.3.1).
            self.common.write_u32(register, low(address))?;
            self.common.write_u32(register + 4, low(address >> 32))?;
        }
        let bell = self.notify.bell(queue, self.common.read_u16(QUEUE_NOTIFY_OFF)?)?;
        self.common.write_u16(QUEUE_ENABLE, 1)?;
        Ok(bell)
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
