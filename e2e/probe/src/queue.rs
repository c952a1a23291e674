//! One split virtqueue, polled: virtio 1.3, section 2.7.
//!
//! Descriptor `i` always names buffer `i`, so a queue is its ring and as many buffers of one size; where the device
//! answers in place, two neighbours are one request. What the device writes (indices, lengths) is checked before it is
//! used: it is the device's word, not ours.

use std::sync::atomic::{Ordering, fence};

use anyhow::{Context, Result, ensure};

use crate::memory::DmaMemory;
use crate::virtio::Addresses;

/// Bytes of a buffer: a full Ethernet frame with its virtio header, and a divisor of the page.
pub(crate) const BUFFER: usize = 2048;

/// `VIRTQ_DESC_F_NEXT`: another descriptor belongs to this one.
const DESC_F_NEXT: u16 = 1;
/// `VIRTQ_DESC_F_WRITE`: the device writes the buffer.
const DESC_F_WRITE: u16 = 2;
/// `VIRTQ_AVAIL_F_NO_INTERRUPT`: we poll.
const AVAIL_F_NO_INTERRUPT: u16 = 1;
/// `VIRTQ_USED_F_NO_NOTIFY`: the device is looking at the ring already and need not be rung.
const USED_F_NO_NOTIFY: u16 = 1;

/// Bytes of a descriptor, an available and a used element; and of the two fields before either ring.
const DESCRIPTOR: usize = 16;
const AVAILABLE: usize = 2;
const USED: usize = 8;
const RING_HEADER: usize = 4;
/// Parts start on lines of their own: more than the specification asks (16, 2 and 4).
const LINE: usize = 64;

/// Who fills the buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// The device writes: a receive queue.
    FromDevice,
    /// We write: a transmit queue.
    ToDevice,
    /// We write a request into a buffer, and the device so many bytes of an answer into the next, at most.
    Exchange {
        /// No more than [`BUFFER`].
        answer: u16,
    },
}

impl Direction {
    /// Descriptors of what is given to the device at a time.
    pub(crate) fn step(self) -> u16 {
        if matches!(self, Self::Exchange { .. }) { 2 } else { 1 }
    }

    /// Length, flags and next of a descriptor.
    fn descriptor(self, index: u16) -> (u32, u16, u16) {
        match self {
            Self::FromDevice => (BUFFER as u32, DESC_F_WRITE, 0),
            Self::ToDevice => (0, 0, 0),
            Self::Exchange { .. } if index.is_multiple_of(2) => (0, DESC_F_NEXT, index + 1),
            Self::Exchange { answer } => (u32::from(answer), DESC_F_WRITE, 0),
        }
    }
}

/// Where a queue of some size lies in the DMA memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    size: u16,
    descriptors: usize,
    available: usize,
    used: usize,
    buffers: usize,
    end: usize,
}

impl Layout {
    /// From offset `start`, for `size` descriptors, a power of two.
    pub(crate) fn new(start: usize, size: u16) -> Self {
        let count = usize::from(size);
        let descriptors = start.next_multiple_of(LINE);
        let available = (descriptors + DESCRIPTOR * count).next_multiple_of(LINE);
        let used = (available + RING_HEADER + AVAILABLE * count).next_multiple_of(LINE);
        let buffers = (used + RING_HEADER + USED * count).next_multiple_of(BUFFER);
        Self { size, descriptors, available, used, buffers, end: buffers + BUFFER * count }
    }

    /// The offset behind the queue.
    pub(crate) fn end(&self) -> usize {
        self.end
    }

    /// Number of descriptors.
    pub(crate) fn size(&self) -> u16 {
        self.size
    }

    /// The three parts as the device sees them, with the memory at `iova`.
    pub(crate) fn addresses(&self, iova: u64) -> Addresses {
        let address = |offset: usize| iova + offset as u64;
        Addresses {
            descriptors: address(self.descriptors),
            available: address(self.available),
            used: address(self.used),
        }
    }

    fn buffer(&self, head: u16) -> usize {
        self.buffers + BUFFER * usize::from(head)
    }
}

/// A buffer that the device has finished with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Used {
    /// Its descriptor.
    pub(crate) head: u16,
    /// Bytes that the device wrote.
    pub(crate) length: usize,
}

/// A queue with its place in both rings.
#[derive(Debug)]
pub(crate) struct Queue {
    layout: Layout,
    direction: Direction,
    /// Descriptors that we hold, the first of each request.
    free: Vec<u16>,
    /// `idx` of the available ring, as next published.
    next_available: u16,
    /// Used elements taken.
    next_used: u16,
}

impl Queue {
    /// Writes the descriptor table; all buffers are ours.
    pub(crate) fn new(memory: &DmaMemory, iova: u64, layout: Layout, direction: Direction) -> Self {
        for index in 0..layout.size {
            let at = layout.descriptors + DESCRIPTOR * usize::from(index);
            let (length, flags, next) = direction.descriptor(index);
            memory.write_u64(at, iova + layout.buffer(index) as u64);
            memory.write_u32(at + 8, length);
            memory.write_u16(at + 12, flags);
            memory.write_u16(at + 14, next);
        }
        memory.write_u16(layout.available, AVAIL_F_NO_INTERRUPT);
        // Taken from the end: the lowest first.
        let free = (0..layout.size).step_by(usize::from(direction.step())).rev().collect();
        Self { layout, direction, free, next_available: 0, next_used: 0 }
    }

    /// Hands every free buffer to the device to fill; nothing is seen of it before [`Queue::publish`].
    pub(crate) fn offer_all(&mut self, memory: &DmaMemory) {
        while let Some(head) = self.free.pop() {
            self.enqueue(memory, head);
        }
    }

    /// Puts `parts`, one after the other, into a free buffer for the device to read; `false` if none is free.
    pub(crate) fn offer(&mut self, memory: &DmaMemory, parts: &[&[u8]]) -> Result<bool> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        ensure!(length <= BUFFER, "{length} bytes do not fit into a buffer of {BUFFER}");
        let Some(head) = self.free.pop() else { return Ok(false) };
        let mut at = self.layout.buffer(head);
        for part in parts {
            memory.write_bytes(at, part);
            at += part.len();
        }
        memory.write_u32(self.layout.descriptors + DESCRIPTOR * usize::from(head) + 8, length as u32);
        self.enqueue(memory, head);
        Ok(true)
    }

    /// Shows the device what was offered; whether it wants its doorbell rung.
    pub(crate) fn publish(&self, memory: &DmaMemory) -> bool {
        // The buffers and ring elements before the index (section 2.7.13.3).
        fence(Ordering::SeqCst);
        memory.write_u16(self.layout.available + 2, self.next_available);
        // The index before the flags are read, or both sides may wait for each other (section 2.7.13.4.1).
        fence(Ordering::SeqCst);
        self.awaits_ring(memory)
    }

    /// Whether the device wants its doorbell rung for what it is shown next.
    pub(crate) fn awaits_ring(&self, memory: &DmaMemory) -> bool {
        memory.read_u16(self.layout.used) & USED_F_NO_NOTIFY == 0
    }

    /// Takes the next buffer that the device has finished with. It is ours again after [`Queue::release`].
    pub(crate) fn take(&mut self, memory: &DmaMemory) -> Result<Option<Used>> {
        let index = memory.read_u16(self.layout.used + 2);
        let (waiting, outstanding) = (index.wrapping_sub(self.next_used), self.outstanding());
        if waiting == 0 {
            return Ok(None);
        }
        ensure!(
            waiting <= outstanding,
            "the device used {waiting} buffers of {outstanding} that it was given (used index {index})"
        );
        // The element after the index that covers it (section 2.7.14).
        fence(Ordering::SeqCst);
        let slot = usize::from(self.next_used % self.layout.size);
        let at = self.layout.used + RING_HEADER + USED * slot;
        let (id, length) = (memory.read_u32(at), memory.read_u32(at + 4));
        let head = u16::try_from(id)
            .ok()
            .filter(|head| *head < self.layout.size && head.is_multiple_of(self.direction.step()))
            .filter(|head| !self.free.contains(head))
            .with_context(|| format!("the device used buffer {id}, which it was not given"))?;
        let length = usize::try_from(length)
            .ok()
            .filter(|length| *length <= BUFFER)
            .with_context(|| format!("the device wrote {length} bytes into a buffer of {BUFFER}"))?;
        self.next_used = self.next_used.wrapping_add(1);
        Ok(Some(Used { head, length }))
    }

    /// What the device wrote: into the buffer, or the last one of a request.
    pub(crate) fn contents(&self, memory: &DmaMemory, used: &Used) -> Vec<u8> {
        memory.read_bytes(self.layout.buffer(used.head + self.direction.step() - 1), used.length)
    }

    /// Makes a taken buffer free.
    pub(crate) fn release(&mut self, used: &Used) {
        self.free.push(used.head);
    }

    fn enqueue(&mut self, memory: &DmaMemory, head: u16) {
        let slot = usize::from(self.next_available % self.layout.size);
        memory.write_u16(self.layout.available + RING_HEADER + AVAILABLE * slot, head);
        self.next_available = self.next_available.wrapping_add(1);
    }

    /// Buffers at the device, published or not.
    pub(crate) fn outstanding(&self) -> u16 {
        self.next_available.wrapping_sub(self.next_used)
    }
}

#[cfg(test)]
mod tests;
