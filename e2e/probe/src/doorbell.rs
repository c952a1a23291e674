//! The bell of a queue: a place on a mapped page.

pub(crate) mod area;

use std::rc::Rc;

use crate::memory::DoorbellPage;

/// One queue's bell, and how often it was rung.
#[derive(Debug)]
pub(crate) struct Bell {
    queue: u16,
    page: Rc<DoorbellPage>,
    at: usize,
    rung: u64,
}

impl Bell {
    /// Rung by a write, `at` bytes into a mapped page.
    pub(crate) fn mapped(queue: u16, page: Rc<DoorbellPage>, at: usize) -> Self {
        Self { queue, page, at, rung: 0 }
    }

    /// Rings: one write of the queue's index, where VIRTIO_F_NOTIFICATION_DATA is not agreed on (virtio 1.3, section
    /// 4.1.5.2).
    pub(crate) fn ring(&mut self) {
        self.page.ring(self.at, self.queue);
        self.rung += 1;
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

    use super::*;

    #[test]
    fn a_ring_is_one_write_of_the_queues_index() {
        let file: File = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        let page = DoorbellPage::map(&file, 0, NonZeroUsize::new(4096).unwrap()).unwrap();
        let mut bell = Bell::mapped(0x0203, Rc::new(page), 4);
        bell.ring();
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!((bytes, bell.rung()), ([0, 0, 0, 0, 3, 2, 0, 0], 1));
    }
}
