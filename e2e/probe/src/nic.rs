//! The network card: a virtio-net device with its two queues, all in memory of our own, rung through its doorbell.

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::dma::Space;
use crate::line::{Line, Wish};
use crate::net::ethernet::Mac;
use crate::queue::Direction;
use crate::report::{PerQueue, Proof, micros};
use crate::virtio::{Required, Virtio};

/// `VIRTIO_ID_NET` (virtio 1.3, section 5).
pub(crate) const DEVICE_TYPE: u32 = 1;
/// Section 5.1.3.
const REQUIRED: [Required; 1] = [(1 << 5, "VIRTIO_NET_F_MAC")];
/// `struct virtio_net_config` begins with the MAC address (section 5.1.4).
const CONFIG_MAC: u32 = 0;
/// `struct virtio_net_hdr` (section 5.1.6): all zero for a frame that asks nothing of the device.
const NET_HEADER: [u8; 12] = [0; 12];

/// How long a frame waits in the ring, unrung, to prove the doorbell; and how many may.
const QUIET: Duration = Duration::from_millis(20);
const TRIES: u32 = 3;
/// A rung device that has not looked after this is deaf.
const DEAF: Duration = Duration::from_secs(2);

/// A card that is up. Dropping it resets the device before its memory goes.
#[derive(Debug)]
pub(crate) struct Nic {
    virtio: Virtio,
    features: u64,
    mac: Mac,
    /// `receiveq1` and `transmitq1` (section 5.1.2).
    rx: Line,
    tx: Line,
    frames: PerQueue,
}

impl Nic {
    /// Brings the device up, with rings in memory of `space`.
    pub(crate) fn bring_up(virtio: Virtio, space: &Rc<Space>, wish: Wish) -> Result<Self> {
        virtio.reset()?;
        let features = virtio.negotiate(&REQUIRED)?;
        let mut mac = Mac([0; 6]);
        virtio.transport().read_config(CONFIG_MAC, &mut mac.0)?;
        let [rx, tx] = Line::lay(&virtio, space, wish, [Direction::FromDevice, Direction::ToDevice])?;
        let mut nic = Self { virtio, features, mac, rx, tx, frames: PerQueue::default() };
        nic.virtio.start()?;
        nic.rx.offer_all()?;
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
        ensure!(self.tx.offer(&[&NET_HEADER, frame])?, "the transmit queue has no room");
        self.tx.show();
        self.frames.tx += 1;
        let quiet = !self.sent_within(QUIET)?;
        let rung = Instant::now();
        self.tx.ring()?;
        ensure!(
            !quiet || self.sent_within(DEAF)?,
            "the device did not look at its transmit queue within {} s of the doorbell",
            DEAF.as_secs()
        );
        Ok(Proof { quiet_before_ring: quiet, ring_to_used_micros: quiet.then(|| micros(rung.elapsed())) })
    }

    /// Rings for sending, though there is nothing to send.
    pub(crate) fn ring(&mut self) -> Result<()> {
        self.tx.ring()
    }

    /// Has the device send one frame, once it is done with all others, and rings for it: how long that took, from before
    /// the frame is in the queue until the device has used it. `None` where the device wanted no ring for it.
    pub(crate) fn round_trip(&mut self, frame: &[u8]) -> Result<Option<Duration>> {
        self.drain()?;
        let awaits = self.tx.within(DEAF, |tx| Ok(tx.awaits_ring().then_some(())))?;
        ensure!(awaits.is_some(), "the device looks at its transmit queue all the time and wants no ring");
        let began = Instant::now();
        ensure!(self.tx.offer(&[&NET_HEADER, frame])?, "the transmit queue has no room");
        let wanted = self.tx.show();
        self.tx.ring()?;
        ensure!(
            self.sent_within(DEAF)?,
            "the device did not send within {} s of the doorbell",
            DEAF.as_secs()
        );
        let took = began.elapsed();
        self.frames.tx += 1;
        Ok(wanted.then_some(took))
    }

    /// Sends a frame. Waits, for a while, for room in the queue.
    pub(crate) fn send(&mut self, frame: &[u8]) -> Result<()> {
        self.tx.reclaim()?;
        while !self.tx.offer(&[&NET_HEADER, frame])? {
            ensure!(self.sent_within(DEAF)?, "the transmit queue stays full: the device takes no frame");
        }
        self.tx.publish()?;
        self.frames.tx += 1;
        Ok(())
    }

    /// Waits until the device has taken every frame: a reset forgets what is still in the ring.
    pub(crate) fn drain(&mut self) -> Result<()> {
        self.tx.reclaim()?;
        while self.tx.outstanding() > 0 {
            ensure!(
                self.sent_within(DEAF)?,
                "the device left {} frames in its transmit queue",
                self.tx.outstanding()
            );
        }
        Ok(())
    }

    /// The next frame that came in.
    pub(crate) fn receive(&mut self) -> Result<Option<Vec<u8>>> {
        let Some(bytes) = self.rx.receive()? else { return Ok(None) };
        self.rx.offer_all()?;
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
        self.rx.dma_bytes()
    }

    /// Frames that went through.
    pub(crate) fn frames(&self) -> PerQueue {
        self.frames
    }

    /// How often the bells were rung.
    pub(crate) fn rung(&self) -> PerQueue {
        PerQueue { rx: self.rx.rung(), tx: self.tx.rung() }
    }

    /// Times that the device, looking already, needed no ring.
    pub(crate) fn spared(&self) -> PerQueue {
        PerQueue { rx: self.rx.spared(), tx: self.tx.spared() }
    }

    /// Waits until the device is done with some frame.
    fn sent_within(&mut self, limit: Duration) -> Result<bool> {
        let sent = self.tx.within(limit, |tx| Ok(tx.reclaim()?.then_some(())))?;
        Ok(sent.is_some())
    }
}

impl Drop for Nic {
    fn drop(&mut self) {
        // Closing the device resets it as well: what fails here is made up for there.
        let _ = self.virtio.reset();
    }
}
