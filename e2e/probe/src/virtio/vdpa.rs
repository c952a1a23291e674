//! A virtio device over vDPA, by the calls of its vhost node, which the kernel's driver turns into registers.

use std::rc::Rc;

use anyhow::{Context, Result, bail, ensure};
use vhost::vdpa::VhostVdpa;
use vhost::{VhostBackend, VringConfigData};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::doorbell::Bell;
use crate::report::By;
use crate::vhost::Node;
use crate::virtio::{Addresses, Transport};

/// The device behind a node, with bells of one kind.
#[derive(Debug)]
pub(crate) struct Vdpa {
    node: Rc<Node>,
    by: By,
}

impl Vdpa {
    /// Over an open node; its queues are rung `by` this.
    pub(crate) fn new(node: &Rc<Node>, by: By) -> Self {
        Self { node: Rc::clone(node), by }
    }

    /// A page of the queue's, or an eventfd that its node listens to from now on.
    fn bell(&self, queue: u16) -> Result<Bell> {
        match self.by {
            // At the start of the page, as the kernel maps none that is not aligned.
            By::Mapped => Ok(Bell::mapped(queue, Rc::new(self.node.map_doorbell(queue)?), 0)),
            By::Eventfd => {
                let kick = EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK).context("make an eventfd")?;
                let set = self.node.device().set_vring_kick(usize::from(queue), &kick);
                self.node.told("set the eventfd of a queue", set)?;
                Ok(Bell::eventfd(queue, kick))
            }
            By::Pwrite | By::Relayed => bail!("a vDPA device is rung by a page or the kernel's eventfd"),
        }
    }
}

impl Transport for Vdpa {
    fn status(&self) -> Result<u8> {
        self.node.told("get the status", self.node.device().get_status())
    }

    fn set_status(&self, status: u8) -> Result<()> {
        self.node.told("set the status", self.node.device().set_status(status))
    }

    fn offered(&self) -> Result<u64> {
        self.node.told("get the features", self.node.device().get_features())
    }

    fn accept(&self, features: u64) -> Result<()> {
        self.node.told("set the features", self.node.device().set_features(features))
    }

    fn read_config(&self, at: u32, bytes: &mut [u8]) -> Result<()> {
        // The kernel's drivers see to it that it is of one moment.
        self.node.told("get the configuration", self.node.device().get_config(at, bytes))
    }

    fn queue_limit(&self, queue: u16) -> Result<u16> {
        let device = self.node.device();
        let queues = self.node.told("get the number of queues", device.get_vqs_count())?;
        ensure!(u32::from(queue) < queues, "the device has no queue {queue}");
        self.node.told("get the size of queues", device.get_vring_num())
    }

    fn enable_queue(&self, queue: u16, size: u16, at: Addresses) -> Result<Bell> {
        let device = self.node.device();
        let index = usize::from(queue);
        let rings = VringConfigData {
            queue_max_size: size,
            queue_size: size,
            desc_table_addr: at.descriptors,
            avail_ring_addr: at.available,
            used_ring_addr: at.used,
            ..VringConfigData::default()
        };
        self.node.told("set the size of a queue", device.set_vring_num(index, size))?;
        self.node.told("set the addresses of a queue", device.set_vring_addr(index, &rings))?;
        self.node.told("set the start of a queue", device.set_vring_base(index, 0))?;
        let bell = self.bell(queue)?;
        self.node.told("enable a queue", device.set_vring_enable(index, true))?;
        Ok(bell)
    }
}
