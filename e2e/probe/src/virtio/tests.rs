//! The order of things, by a device that notes what is done to it and agrees to everything.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::*;

const ALL: u64 = F_VERSION_1 | F_ACCESS_PLATFORM;

/// A device with features, and bits of the status that it does not take.
#[derive(Debug, Default)]
struct Noted {
    features: u64,
    refused: u8,
    status: Cell<u8>,
    notes: Rc<RefCell<Vec<String>>>,
}

impl Transport for Noted {
    fn status(&self) -> Result<u8> {
        Ok(self.status.get())
    }

    fn set_status(&self, status: u8) -> Result<()> {
        self.notes.borrow_mut().push(format!("status {status:#x}"));
        self.status.set(status & !self.refused);
        Ok(())
    }

    fn offered(&self) -> Result<u64> {
        Ok(self.features)
    }

    fn accept(&self, features: u64) -> Result<()> {
        self.notes.borrow_mut().push(format!("features {features:#x}"));
        Ok(())
    }

    fn read_config(&self, _: u32, _: &mut [u8]) -> Result<()> {
        Ok(())
    }

    fn queue_limit(&self, _: u16) -> Result<u16> {
        Ok(256)
    }

    fn enable_queue(&self, queue: u16, _: u16, _: Addresses) -> Result<Bell> {
        anyhow::bail!("there is no queue {queue}")
    }
}

fn refusal(device: Noted) -> String {
    let virtio = Virtio::new(device);
    virtio.negotiate(&[]).and_then(|_| virtio.start()).unwrap_err().to_string()
}

#[test]
fn a_device_comes_up_in_the_order_of_the_specification() {
    let device = Noted { features: ALL | F_ORDER_PLATFORM | 0xff, ..Noted::default() };
    let notes = Rc::clone(&device.notes);
    let virtio = Virtio::new(device);
    virtio.reset().unwrap();
    assert_eq!(virtio.negotiate(&[(1, "a feature")]).unwrap(), ALL | F_ORDER_PLATFORM | 1);
    virtio.start().unwrap();
    let order =
        ["status 0x0", "status 0x1", "status 0x3", "features 0x1300000001", "status 0xb", "status 0xf"];
    assert_eq!(*notes.borrow(), order);
}

#[test]
fn a_device_past_the_iommu_is_refused() {
    let error = refusal(Noted { features: F_VERSION_1, ..Noted::default() });
    assert!(error.contains("VIRTIO_F_ACCESS_PLATFORM"), "{error}");
}

#[test]
fn what_a_kind_of_device_needs_is_demanded() {
    let virtio = Virtio::new(Noted { features: ALL, ..Noted::default() });
    let error = virtio.negotiate(&[(1 << 5, "VIRTIO_NET_F_MAC")]).unwrap_err().to_string();
    assert_eq!(error, "the device offers features 0x300000000, without VIRTIO_NET_F_MAC");
}

#[test]
fn a_device_that_does_not_agree_or_start_is_refused() {
    let error = refusal(Noted { features: ALL, refused: FEATURES_OK, ..Noted::default() });
    assert_eq!(error, "the device refuses features 0x300000000 (status 0x3)");
    let error = refusal(Noted { features: ALL, refused: DRIVER_OK, ..Noted::default() });
    assert_eq!(error, "the device does not start (status 0xb)");
}
