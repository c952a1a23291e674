//! A queue in memory that the device reaches, with its bell: what a driver talks to its device by.

use std::num::NonZeroUsize;
use std::rc::Rc;
use std::thread::yield_now;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::dma::{DmaArea, Space};
use crate::doorbell::Bell;
use crate::queue::{Direction, Layout, Queue};
use crate::virtio::Virtio;

/// What lines are made with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish {
    /// Descriptors a queue, at most.
    pub(crate) queue_size: u16,
    /// Bytes mapped for DMA, if more than the queues need.
    pub(crate) dma_bytes: usize,
}

/// A queue with its bell. All lines of a device lie in one area, which lives as long as the last of them.
#[derive(Debug)]
pub(crate) struct Line {
    queue: Queue,
    bell: Bell,
    area: Rc<DmaArea>,
    /// Publications that needed no ring.
    spared: u64,
}

impl Line {
    /// The first queues of a device, enabled: one for each direction.
    pub(crate) fn lay<const N: usize>(
        virtio: &Virtio,
        space: &Rc<Space>,
        wish: Wish,
        directions: [Direction; N],
    ) -> Result<[Self; N]> {
        let transport = virtio.transport();
        let (mut layouts, mut end) = (Vec::new(), 0);
        for (queue, direction) in (0..).zip(directions) {
            let size = power_of_two(wish.queue_size.min(transport.queue_limit(queue)?));
            ensure!(size >= direction.step(), "queue {queue} has {size} descriptors, too few for a request");
            let layout = Layout::new(end, size);
            end = layout.end();
            layouts.push((queue, layout, direction));
        }
        let length = NonZeroUsize::new(end.max(wish.dma_bytes)).context("an empty DMA area")?;
        let area = Rc::new(DmaArea::map(space, length)?);
        let lines = layouts.into_iter().map(|(index, layout, direction)| {
            let queue = Queue::new(area.memory(), area.iova(), layout, direction);
            let bell = transport.enable_queue(index, layout.size(), layout.addresses(area.iova()))?;
            Ok(Self { queue, bell, area: Rc::clone(&area), spared: 0 })
        });
        let lines = <[Self; N]>::try_from(lines.collect::<Result<Vec<_>>>()?);
        Ok(lines.expect("there is a line for each of the N directions"))
    }

    /// Hands every free buffer to the device to fill.
    pub(crate) fn offer_all(&mut self) -> Result<()> {
        self.queue.offer_all(self.area.memory());
        self.publish()
    }

    /// Puts `parts` into a free buffer for the device, which sees nothing of it yet; `false` if none is free.
    pub(crate) fn offer(&mut self, parts: &[&[u8]]) -> Result<bool> {
        self.queue.offer(self.area.memory(), parts)
    }

    /// Shows the device what was offered, and rings where it wants that.
    pub(crate) fn publish(&mut self) -> Result<()> {
        if self.show() {
            return self.ring();
        }
        self.spared += 1;
        Ok(())
    }

    /// Shows the device what was offered, and no more; whether it wants to be rung.
    pub(crate) fn show(&mut self) -> bool {
        self.queue.publish(self.area.memory())
    }

    /// Whether the device wants to be rung for what it is shown next.
    pub(crate) fn awaits_ring(&self) -> bool {
        self.queue.awaits_ring(self.area.memory())
    }

    /// Rings.
    pub(crate) fn ring(&mut self) -> Result<()> {
        self.bell.ring()
    }

    /// What the device wrote next.
    pub(crate) fn receive(&mut self) -> Result<Option<Vec<u8>>> {
        let memory = self.area.memory();
        let Some(used) = self.queue.take(memory)? else { return Ok(None) };
        let bytes = self.queue.contents(memory, &used);
        self.queue.release(&used);
        Ok(Some(bytes))
    }

    /// Takes back what the device is done with; whether there was anything.
    pub(crate) fn reclaim(&mut self) -> Result<bool> {
        let mut any = false;
        while let Some(used) = self.queue.take(self.area.memory())? {
            self.queue.release(&used);
            any = true;
        }
        Ok(any)
    }

    /// Looks again and again, until there is something to see or the time is over.
    pub(crate) fn within<T>(
        &mut self,
        limit: Duration,
        mut look: impl FnMut(&mut Self) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        let start = Instant::now();
        loop {
            let seen = look(self)?;
            if seen.is_some() || start.elapsed() >= limit {
                return Ok(seen);
            }
            yield_now();
        }
    }

    /// Buffers at the device.
    pub(crate) fn outstanding(&self) -> u16 {
        self.queue.outstanding()
    }

    /// How often the bell was rung.
    pub(crate) fn rung(&self) -> u64 {
        self.bell.rung()
    }

    /// Times that the device, looking already, needed no ring.
    pub(crate) fn spared(&self) -> u64 {
        self.spared
    }

    /// Bytes of the area: what the device may reach.
    pub(crate) fn dma_bytes(&self) -> usize {
        self.area.memory().length()
    }
}

/// The largest power of two that is not above `limit`, which is not 0.
fn power_of_two(limit: u16) -> u16 {
    1 << limit.ilog2()
}
