//! Bringing a virtio device up, whichever way it is reached: virtio 1.3, section 3.1 (the order).

pub(crate) mod pci;
pub(crate) mod vdpa;

use std::fmt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::doorbell::Bell;

/// A feature bit that a device is not driven without, and its name in errors.
pub(crate) type Required = (u64, &'static str);

/// Feature bits of all devices (section 6).
const F_VERSION_1: u64 = 1 << 32;
const F_ACCESS_PLATFORM: u64 = 1 << 33;
const F_ORDER_PLATFORM: u64 = 1 << 36;
/// A device that bypasses the platform's IOMMU is not isolated at all.
const REQUIRED: [Required; 2] = [
    (F_VERSION_1, "VIRTIO_F_VERSION_1"),
    (F_ACCESS_PLATFORM, "VIRTIO_F_ACCESS_PLATFORM, without which its DMA passes the IOMMU by"),
];

/// Device status bits (section 2.1).
const ACKNOWLEDGE: u8 = 1;
const DRIVER: u8 = 2;
const DRIVER_OK: u8 = 4;
const FEATURES_OK: u8 = 8;
const NEEDS_RESET: u8 = 64;

/// A device that has not finished its reset after this is broken.
const RESET_LIMIT: Duration = Duration::from_secs(2);

/// Where a queue's three parts lie, as the device sees them (section 2.7: descriptor table, available and used ring).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    pub(crate) descriptors: u64,
    pub(crate) available: u64,
    pub(crate) used: u64,
}

/// How a device is reached: the accesses that its bring-up is made of.
pub(crate) trait Transport: fmt::Debug {
    /// The status bits.
    fn status(&self) -> Result<u8>;

    /// Sets the status bits; 0 resets.
    fn set_status(&self, status: u8) -> Result<()>;

    /// The features that the device offers.
    fn offered(&self) -> Result<u64>;

    /// Accepts some of them.
    fn accept(&self, features: u64) -> Result<()>;

    /// Reads the device's own configuration from byte `at`, of one moment as a whole.
    fn read_config(&self, at: u32, bytes: &mut [u8]) -> Result<()>;

    /// The most descriptors that a queue may have.
    fn queue_limit(&self, queue: u16) -> Result<u16>;

    /// Sets a queue up, without interrupts, and enables it; its bell.
    fn enable_queue(&self, queue: u16, size: u16, at: Addresses) -> Result<Bell>;
}

/// A virtio device and its driver's way with it.
#[derive(Debug)]
pub(crate) struct Virtio {
    transport: Box<dyn Transport>,
}

impl Virtio {
    /// The device behind a transport.
    pub(crate) fn new(transport: impl Transport + 'static) -> Self {
        Self { transport: Box::new(transport) }
    }

    /// The accesses, for what differs from one kind of device to the next.
    pub(crate) fn transport(&self) -> &dyn Transport {
        self.transport.as_ref()
    }

    /// Resets the device and waits until it says so (section 4.1.4.3.2).
    pub(crate) fn reset(&self) -> Result<()> {
        self.transport.set_status(0)?;
        let deadline = Instant::now() + RESET_LIMIT;
        loop {
            let status = self.transport.status()?;
            if status == 0 {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the device still has status {status:#x} after its reset");
            sleep(Duration::from_millis(1));
        }
    }

    /// Acknowledges the device and agrees on features: those that every device must have, and `required`, which its
    /// kind must; the bits agreed on.
    pub(crate) fn negotiate(&self, required: &[Required]) -> Result<u64> {
        self.add_status(ACKNOWLEDGE)?;
        self.add_status(DRIVER)?;
        let offered = self.transport.offered()?;
        // Real hardware may want stronger barriers than an emulated device; ours are the strong ones anyway.
        let mut wanted = offered & F_ORDER_PLATFORM;
        for (bit, name) in REQUIRED.iter().chain(required) {
            ensure!(offered & bit != 0, "the device offers features {offered:#x}, without {name}");
            wanted |= bit;
        }
        self.transport.accept(wanted)?;
        self.add_status(FEATURES_OK)?;
        let status = self.transport.status()?;
        ensure!(status & FEATURES_OK != 0, "the device refuses features {wanted:#x} (status {status:#x})");
        Ok(wanted)
    }

    /// Lets the device go: from here on it uses the queues.
    pub(crate) fn start(&self) -> Result<()> {
        self.add_status(DRIVER_OK)?;
        let status = self.transport.status()?;
        ensure!(status & DRIVER_OK != 0, "the device does not start (status {status:#x})");
        ensure!(
            status & NEEDS_RESET == 0,
            "the device wants a reset right after its start (status {status:#x})"
        );
        Ok(())
    }

    fn add_status(&self, bit: u8) -> Result<()> {
        let status = self.transport.status()?;
        self.transport.set_status(status | bit)
    }
}

#[cfg(test)]
mod tests;
