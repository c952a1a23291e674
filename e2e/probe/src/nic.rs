//! The network card: a virtio-net VF with its two queues, all in memory of our own, rung through its doorbell.

use std::num::NonZeroUsize;
use std::rc::Rc;
use std::thread::yield_now;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use doorbell_common::formats::descriptor::Doorbell as Described;

use crate::attach::Space;
use crate::capability::{self, Area, CONFIG_LENGTH};
use crate::doorbell::{self, Bell, Doorbell};
use crate::memory::DmaMemory;
use crate::net::ethernet::Mac;
use crate::queue::{Direction, Layout, Queue};
use crate::report::{PerQueue, Proof};
use crate::vfio::{DmaArea, Function, Region, page_size};
use crate::virtio::Virtio;

/// VFIO's index of the config space (`VFIO_PCI_CONFIG_REGION_INDEX`).
const CONFIG_REGION: u32 = 7;
/// PCI command register, with memory space and bus master (PCI 3.0, section 6.2.2).
const COMMAND: u64 = 0x04;
const COMMAND_MEMORY_AND_MASTER: u16 = 0b110;

/// `receiveq1` and `transmitq1` (virtio 1.3, section 5.1.2).
const RX: u16 = 0;
const TX: u16 = 1;
/// `struct virtio_net_hdr` (section 5.1.6): all zero for a frame that asks nothing of the device.
const NET_HEADER: [u8; 12] = [0; 12];

/// How long a frame waits in the ring, unrung, to prove the doorbell; and how many may.
const QUIET: Duration = Duration::from_millis(20);
const TRIES: u32 = 3;
/// A rung device that has not looked after this is deaf.
const DEAF: Duration = Duration::from_secs(2);

/// What a card is made with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish {
    /// Descriptors a queue, at most; a power of two.
    pub(crate) queue_size: u16,
    /// Bytes mapped for DMA, if more than the queues need.
    pub(crate) dma_bytes: usize,
}

/// A card that is up. Dropping it resets the device before its memory goes.
#[derive(Debug)]
pub(crate) struct Nic {
    virtio: Virtio,
    features: u64,
    mac: Mac,
    rx: Line,
    tx: Line,
    doorbell: Doorbell,
    area: DmaArea,
    frames: PerQueue,
}

/// A queue with its bell.
#[derive(Debug)]
struct Line {
    queue: Queue,
    bell: Bell,
    /// Publications that needed no ring.
    spared: u64,
}

impl Nic {
    /// Brings the device up: registers through VFIO, rings in memory that it maps, the doorbell as described.
    pub(crate) fn bring_up(
        space: &Rc<Space>,
        function: &Function,
        described: &Described,
        wish: Wish,
    ) -> Result<Self> {
        let config = function.region(CONFIG_REGION)?;
        let structures =
            capability::parse(&config.read::<CONFIG_LENGTH>(0)?).context("read the capabilities")?;
        let page = page_size()?;
        let (notify, notify_region) = structures
            .notify
            .iter()
            .find_map(|notify| Some((notify, bar(function, notify.area).ok().filter(Region::mappable)?)))
            .context("no notify area of the device lies in a BAR that may be mapped")?;
        doorbell::check(described, notify, page)?;

        // Memory decode before any register, or the access faults.
        let command = u16::from_le_bytes(config.read(COMMAND)?) | COMMAND_MEMORY_AND_MASTER;
        config.write(COMMAND, &command.to_le_bytes()).context("enable memory and bus master")?;

        let virtio = Virtio::new(
            (bar(function, structures.common)?, structures.common),
            (bar(function, structures.device)?, structures.device),
        )?;
        virtio.reset()?;
        let features = virtio.negotiate()?;
        let mac = Mac(virtio.mac()?);

        let layout = |queue, start| -> Result<Layout> {
            Ok(Layout::new(start, power_of_two(wish.queue_size.min(virtio.queue_limit(queue)?))))
        };
        let rx = layout(RX, 0)?;
        let tx = layout(TX, rx.end())?;
        let length = NonZeroUsize::new(tx.end().max(wish.dma_bytes)).context("an empty DMA area")?;
        let area = DmaArea::map(space, length)?;
        let doorbell = Doorbell::map(described, &notify_region, page)?;
        let line = |index, layout: Layout, direction| -> Result<Line> {
            let queue = Queue::new(area.memory(), area.iova(), layout, direction);
            let notify_off = virtio.enable_queue(index, layout.size(), layout.addresses(area.iova()))?;
            Ok(Line { queue, bell: doorbell.bell(index, notify_off)?, spared: 0 })
        };
        let rx = line(RX, rx, Direction::FromDevice)?;
        let tx = line(TX, tx, Direction::ToDevice)?;
        virtio.start()?;
        let mut nic = Self { virtio, features, mac, rx, tx, doorbell, area, frames: PerQueue::default() };
        nic.refill();
        Ok(nic)
    }

    /// Proves the doorbell: a frame waits in the ring, which the device should not look at, until the bell is rung,
    /// when it must.
    ///
    /// Tried again with a next frame where the device did not wait: an emulated one looks at each queue once by
    /// itself, some time after its start. One that never waits polls its rings, which is its right.
    pub(crate) fn prove(&mut self, frame: &[u8]) -> Result<Proof> {
        let mut proof = self.try_doorbell(frame)?;
        for _ in 1..TRIES {
            if proof.quiet_before_ring {
                break;
            }
            proof = self.try_doorbell(frame)?;
        }
        Ok(proof)
    }

    fn try_doorbell(&mut self, frame: &[u8]) -> Result<Proof> {
        let memory = self.area.memory();
        ensure!(self.tx.queue.offer(memory, &[&NET_HEADER, frame])?, "the transmit queue has no room");
        self.tx.queue.publish(memory);
        self.frames.tx += 1;
        let quiet = !self.sent_within(QUIET)?;
        let rung = Instant::now();
        self.doorbell.ring(&mut self.tx.bell);
        ensure!(
            !quiet || self.sent_within(DEAF)?,
            "the device did not look at its transmit queue within {} s of the doorbell",
            DEAF.as_secs()
        );
        Ok(Proof { quiet_before_ring: quiet, ring_to_used_micros: quiet.then(|| micros(rung.elapsed())) })
    }

    /// Sends a frame. Waits, for a while, for room in the queue.
    pub(crate) fn send(&mut self, frame: &[u8]) -> Result<()> {
        self.reclaim()?;
        while !self.tx.queue.offer(self.area.memory(), &[&NET_HEADER, frame])? {
            ensure!(self.sent_within(DEAF)?, "the transmit queue stays full: the device takes no frame");
        }
        self.tx.publish(self.area.memory(), &self.doorbell);
        self.frames.tx += 1;
        Ok(())
    }

    /// Waits until the device has taken every frame: a reset forgets what is still in the ring.
    pub(crate) fn drain(&mut self) -> Result<()> {
        self.reclaim()?;
        while self.tx.queue.outstanding() > 0 {
            ensure!(
                self.sent_within(DEAF)?,
                "the device left {} frames in its transmit queue",
                self.tx.queue.outstanding()
            );
        }
        Ok(())
    }

    /// The next frame that came in.
    pub(crate) fn receive(&mut self) -> Result<Option<Vec<u8>>> {
        let memory = self.area.memory();
        let Some(used) = self.rx.queue.take(memory)? else { return Ok(None) };
        let bytes = self.rx.queue.contents(memory, &used);
        self.rx.queue.release(&used);
        self.refill();
        self.frames.rx += 1;
        match bytes.get(NET_HEADER.len()..) {
            Some(frame) => Ok(Some(frame.to_vec())),
            None => bail!("the device delivered {} bytes, less than its own header", bytes.len()),
        }
    }

    /// The device's MAC address.
    pub(crate) fn mac(&self) -> Mac {
        self.mac
    }

    /// The features agreed on.
    pub(crate) fn features(&self) -> u64 {
        self.features
    }

    /// Bytes that the device may reach.
    pub(crate) fn dma_bytes(&self) -> usize {
        self.area.memory().length()
    }

    /// Frames that went through.
    pub(crate) fn frames(&self) -> PerQueue {
        self.frames
    }

    /// Writes to the doorbell.
    pub(crate) fn writes(&self) -> PerQueue {
        PerQueue { rx: self.rx.bell.writes(), tx: self.tx.bell.writes() }
    }

    /// Times that the device, looking already, needed no ring.
    pub(crate) fn spared(&self) -> PerQueue {
        PerQueue { rx: self.rx.spared, tx: self.tx.spared }
    }

    fn refill(&mut self) {
        self.rx.queue.offer_all(self.area.memory());
        self.rx.publish(self.area.memory(), &self.doorbell);
    }

    /// Takes back what was sent; whether there was anything.
    fn reclaim(&mut self) -> Result<bool> {
        let mut any = false;
        while let Some(used) = self.tx.queue.take(self.area.memory())? {
            self.tx.queue.release(&used);
            any = true;
        }
        Ok(any)
    }

    /// Waits until the device is done with some frame.
    fn sent_within(&mut self, limit: Duration) -> Result<bool> {
        let start = Instant::now();
        loop {
            if self.reclaim()? {
                return Ok(true);
            }
            if start.elapsed() >= limit {
                return Ok(false);
            }
            yield_now();
        }
    }
}

impl Drop for Nic {
    fn drop(&mut self) {
        // Closing the device resets it as well: what fails here is made up for there.
        let _ = self.virtio.reset();
    }
}

impl Line {
    fn publish(&mut self, memory: &DmaMemory, doorbell: &Doorbell) {
        if self.queue.publish(memory) {
            doorbell.ring(&mut self.bell);
        } else {
            self.spared += 1;
        }
    }
}

fn bar(function: &Function, area: Area) -> Result<Region> {
    function.region(u32::from(area.bar))
}

/// The largest power of two that is not above `limit`, which is not 0.
fn power_of_two(limit: u16) -> u16 {
    1 << limit.ilog2()
}

/// Microseconds, which no run has too many of.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
