//! The disk: a virtio-blk device with one queue, read from once.

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::dma::Space;
use crate::line::{Line, Wish};
use crate::queue::Direction;
use crate::report::{self, micros};
use crate::virtio::Virtio;

/// `VIRTIO_ID_BLOCK` (virtio 1.3, section 5).
pub(crate) const DEVICE_TYPE: u32 = 2;
/// `struct virtio_blk_config` begins with the capacity in sectors, whatever the size of a block (section 5.2.4).
const CONFIG_CAPACITY: u32 = 0;
const SECTOR: usize = 512;
/// `VIRTIO_BLK_T_IN` of sector 0: type, reserved and sector (section 5.2.6), and thereby all zero.
const READ_FIRST: [u8; 16] = [0; 16];
/// `VIRTIO_BLK_S_OK`, behind the data.
const OK: u8 = 0;
/// As much of a sector as is told.
const HEAD: usize = 16;

/// One request needs two descriptors, but devices may have a smallest size.
const WISH: Wish = Wish { queue_size: 16, dma_bytes: 0 };
/// A disk that has not answered after this is deaf.
const DEAF: Duration = Duration::from_secs(5);

/// A disk that is up. Dropping it resets the device before its memory goes.
#[derive(Debug)]
pub(crate) struct Disk {
    virtio: Virtio,
    requests: Line,
    capacity: u64,
}

impl Disk {
    /// Brings the device up, with its ring in memory of `space`.
    pub(crate) fn bring_up(virtio: Virtio, space: &Rc<Space>) -> Result<Self> {
        virtio.reset()?;
        virtio.negotiate(&[])?;
        let mut capacity = [0; 8];
        virtio.transport().read_config(CONFIG_CAPACITY, &mut capacity)?;
        let answer = SECTOR as u16 + 1;
        let [requests] = Line::lay(&virtio, space, WISH, [Direction::Exchange { answer }])?;
        let disk = Self { virtio, requests, capacity: u64::from_le_bytes(capacity) };
        disk.virtio.start()?;
        Ok(disk)
    }

    /// Reads the first sector.
    pub(crate) fn read(&mut self) -> Result<report::Disk> {
        let start = Instant::now();
        ensure!(self.requests.offer(&[&READ_FIRST])?, "the request queue has no room");
        self.requests.publish()?;
        let answer = self.requests.within(DEAF, Line::receive)?;
        let answer =
            answer.with_context(|| format!("the disk did not answer within {} s", DEAF.as_secs()))?;
        let micros = micros(start.elapsed());
        Ok(report::Disk { sectors: self.capacity, first_sector: head(&answer)?, read_micros: micros })
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Closing the device resets it as well: what fails here is made up for there.
        let _ = self.virtio.reset();
    }
}

/// The first bytes of a sector that was read without a fault, in hex.
fn head(answer: &[u8]) -> Result<String> {
    ensure!(
        answer.len() == SECTOR + 1,
        "the disk answered {} bytes, not a sector and its status",
        answer.len()
    );
    let status = answer[SECTOR];
    ensure!(status == OK, "the disk answered with status {status}");
    Ok(answer[..HEAD].iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_sector_with_a_good_status_was_read() {
        let mut answer = vec![0xab; SECTOR + 1];
        assert_eq!(head(&answer).unwrap_err().to_string(), "the disk answered with status 171");
        answer[SECTOR] = OK;
        assert_eq!(head(&answer).unwrap(), "ab".repeat(16));
        let error = head(&answer[1..]).unwrap_err().to_string();
        assert_eq!(error, "the disk answered 512 bytes, not a sector and its status");
    }
}
