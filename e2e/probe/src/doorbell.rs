//! The bell of a queue: a place on a mapped page, or in a region, or an eventfd.

pub(crate) mod area;
pub(crate) mod relay;

use std::rc::Rc;

use anyhow::{Context, Result};
use vmm_sys_util::eventfd::EventFd;

use crate::doorbell::relay::Relay;
use crate::memory::DoorbellPage;
use crate::vfio::Region;

/// One queue's bell, and how often it was rung.
#[derive(Debug)]
pub(crate) struct Bell {
    queue: u16,
    rope: Rope,
    rung: u64,
}

/// What is pulled.
#[derive(Debug)]
enum Rope {
    /// A write to the device's own page: of the queue's index, where VIRTIO_F_NOTIFICATION_DATA is not agreed on
    /// (virtio 1.3, section 4.1.5.2).
    Page { page: Rc<DoorbellPage>, at: usize },
    /// The same place, by its offset in the region: a system call, and the kernel writes.
    Region { region: Region, at: u64 },
    /// A count that the kernel waits for, to ring in our place.
    Eventfd(EventFd),
    /// A count that a thread of ours waits for, to ring in our place.
    Relay(Relay),
}

impl Bell {
    /// Rung by a write, `at` bytes into a mapped page.
    pub(crate) fn mapped(queue: u16, page: Rc<DoorbellPage>, at: usize) -> Self {
        Self { queue, rope: Rope::Page { page, at }, rung: 0 }
    }

    /// Rung by a `pwrite`, `at` bytes into a region.
    pub(crate) fn written(queue: u16, region: Region, at: u64) -> Self {
        Self { queue, rope: Rope::Region { region, at }, rung: 0 }
    }

    /// Rung by a thread of ours.
    pub(crate) fn relayed(queue: u16, relay: Relay) -> Self {
        Self { queue, rope: Rope::Relay(relay), rung: 0 }
    }

    /// Rung by an eventfd that the kernel listens to.
    pub(crate) fn eventfd(queue: u16, kick: EventFd) -> Self {
        Self { queue, rope: Rope::Eventfd(kick), rung: 0 }
    }

    /// Rings.
    pub(crate) fn ring(&mut self) -> Result<()> {
        match &self.rope {
            Rope::Page { page, at } => page.ring(*at, self.queue),
            Rope::Region { region, at } => region.write(*at, &self.queue.to_le_bytes())?,
            Rope::Eventfd(kick) => {
                kick.write(1).with_context(|| format!("kick queue {}", self.queue))?;
            }
            Rope::Relay(relay) => relay.kick().with_context(|| format!("kick queue {}", self.queue))?,
        }
        self.rung += 1;
        Ok(())
    }

    /// How often it was rung.
    pub(crate) fn rung(&self) -> u64 {
        self.rung
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::num::NonZeroUsize;
    use std::os::unix::fs::FileExt;

    use vmm_sys_util::eventfd::EFD_NONBLOCK;

    use super::*;

    #[test]
    fn a_ring_is_one_write_of_the_queues_index() {
        let file: File = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        let page = DoorbellPage::map(&file, 0, NonZeroUsize::new(4096).unwrap()).unwrap();
        let mut bell = Bell::mapped(0x0203, Rc::new(page), 4);
        bell.ring().unwrap();
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!((bytes, bell.rung()), ([0, 0, 0, 0, 3, 2, 0, 0], 1));
    }

    #[test]
    fn a_kick_counts_one() {
        let kick = EventFd::new(EFD_NONBLOCK).unwrap();
        let mut bell = Bell::eventfd(1, kick.try_clone().unwrap());
        bell.ring().unwrap();
        bell.ring().unwrap();
        assert_eq!((kick.read().unwrap(), bell.rung()), (2, 2));
    }
}
