//! The driver's side against a device in the same process, over the same memory.

use std::num::NonZeroUsize;

use super::*;

const IOVA: u64 = 0x1000_0000;
const SIZE: u16 = 4;

/// The other side of a ring.
struct Device {
    layout: Layout,
    seen: u16,
    used: u16,
}

impl Device {
    /// The next descriptor made available: its number, buffer's offset, length and flags.
    fn next(&mut self, memory: &DmaMemory) -> Option<(u16, usize, u32, u16)> {
        if memory.read_u16(self.layout.available + 2) == self.seen {
            return None;
        }
        let slot = usize::from(self.seen % SIZE);
        self.seen = self.seen.wrapping_add(1);
        let head = memory.read_u16(self.layout.available + 4 + 2 * slot);
        let at = self.layout.descriptors + 16 * usize::from(head);
        let address = u64::from(memory.read_u32(at)) | u64::from(memory.read_u32(at + 4)) << 32;
        let offset = usize::try_from(address - IOVA).unwrap();
        Some((head, offset, memory.read_u32(at + 8), memory.read_u16(at + 12)))
    }

    fn finish(&mut self, memory: &DmaMemory, id: u32, length: u32) {
        let at = self.layout.used + 4 + 8 * usize::from(self.used % SIZE);
        memory.write_u32(at, id);
        memory.write_u32(at + 4, length);
        self.used = self.used.wrapping_add(1);
        memory.write_u16(self.layout.used + 2, self.used);
    }
}

fn pair(direction: Direction) -> (DmaMemory, Queue, Device) {
    let layout = Layout::new(100, SIZE);
    let memory = DmaMemory::allocate(NonZeroUsize::new(layout.end()).unwrap()).unwrap();
    let queue = Queue::new(&memory, IOVA, layout, direction);
    (memory, queue, Device { layout, seen: 0, used: 0 })
}

#[test]
fn frames_arrive_in_order_and_buffers_return() {
    let (memory, mut queue, mut device) = pair(Direction::FromDevice);
    // Past the 16-bit index's end.
    for round in 0..0x1_0010_u32 {
        queue.offer_all(&memory);
        assert!(queue.publish(&memory));
        let (head, offset, length, flags) = device.next(&memory).unwrap();
        assert_eq!((length, flags), (BUFFER as u32, DESC_F_WRITE));
        memory.write_bytes(offset, &round.to_be_bytes());
        device.finish(&memory, u32::from(head), 4);
        let used = queue.take(&memory).unwrap().unwrap();
        assert_eq!(queue.contents(&memory, &used), round.to_be_bytes());
        assert_eq!(queue.take(&memory).unwrap(), None);
        queue.release(&used);
    }
}

#[test]
fn a_full_queue_takes_no_more_until_the_device_is_done() {
    let (memory, mut queue, mut device) = pair(Direction::ToDevice);
    for number in 0..SIZE {
        assert!(queue.offer(&memory, &[&[0; 12], &number.to_be_bytes()]).unwrap());
    }
    assert!(!queue.offer(&memory, &[b"more"]).unwrap());
    assert_eq!(queue.outstanding(), SIZE);
    assert!(device.next(&memory).is_none(), "unpublished buffers are unseen");
    queue.publish(&memory);
    for number in 0..SIZE {
        let (head, offset, length, flags) = device.next(&memory).unwrap();
        assert_eq!((length, flags), (14, 0));
        assert_eq!(memory.read_bytes(offset + 12, 2), number.to_be_bytes());
        device.finish(&memory, u32::from(head), 0);
    }
    let used = queue.take(&memory).unwrap().unwrap();
    queue.release(&used);
    assert_eq!(queue.outstanding(), SIZE - 1);
    assert!(queue.offer(&memory, &[b"more"]).unwrap());
    assert!(queue.offer(&memory, &[&[0; BUFFER + 1]]).is_err());
}

#[test]
fn a_device_that_looks_already_is_not_rung() {
    let (memory, mut queue, device) = pair(Direction::ToDevice);
    memory.write_u16(device.layout.used, USED_F_NO_NOTIFY);
    queue.offer(&memory, &[b"frame"]).unwrap();
    assert!(!queue.publish(&memory));
    memory.write_u16(device.layout.used, 0);
    assert!(queue.publish(&memory));
    assert_eq!(memory.read_u16(device.layout.available), AVAIL_F_NO_INTERRUPT);
}

#[test]
fn a_request_is_answered_in_the_next_buffer() {
    let (memory, mut queue, mut device) = pair(Direction::Exchange { answer: 513 });
    for round in 0..3 * SIZE {
        assert!(queue.offer(&memory, &[b"read ", b"it"]).unwrap());
        queue.publish(&memory);
        let (head, offset, length, flags) = device.next(&memory).unwrap();
        assert_eq!((head, length, flags), (0, 7, DESC_F_NEXT));
        assert_eq!(memory.read_bytes(offset, 7), b"read it");
        let next = device.layout.descriptors + 16;
        assert_eq!((memory.read_u16(next - 2), memory.read_u16(next + 12)), (1, DESC_F_WRITE));
        assert_eq!(memory.read_u32(next + 8), 513);
        memory.write_bytes(offset + BUFFER, &round.to_be_bytes());
        device.finish(&memory, 0, 2);
        let used = queue.take(&memory).unwrap().unwrap();
        assert_eq!(queue.contents(&memory, &used), round.to_be_bytes());
        queue.release(&used);
    }
    for _ in 0..SIZE / 2 {
        assert!(queue.offer(&memory, &[b"request"]).unwrap());
    }
    assert!(!queue.offer(&memory, &[b"one more"]).unwrap());
    device.finish(&memory, 1, 2);
    let error = queue.take(&memory).unwrap_err().to_string();
    assert_eq!(error, "the device used buffer 1, which it was not given");
}

#[test]
fn what_a_device_makes_up_is_refused() {
    let lie = |id, length| {
        let (memory, mut queue, mut device) = pair(Direction::FromDevice);
        queue.offer_all(&memory);
        device.finish(&memory, id, length);
        queue.take(&memory).unwrap_err().to_string()
    };
    assert_eq!(lie(9, 4), "the device used buffer 9, which it was not given");
    assert_eq!(lie(0x1_0000, 4), "the device used buffer 65536, which it was not given");
    assert_eq!(lie(0, 4096), "the device wrote 4096 bytes into a buffer of 2048");

    let (memory, mut queue, mut device) = pair(Direction::ToDevice);
    device.finish(&memory, 0, 0);
    assert!(queue.take(&memory).is_err(), "nothing was given");
    let (memory, mut queue, mut device) = pair(Direction::ToDevice);
    queue.offer(&memory, &[b"frame"]).unwrap();
    device.finish(&memory, 3, 0);
    assert!(queue.take(&memory).unwrap_err().to_string().contains("buffer 3"), "buffer 3 was never offered");
}

#[test]
fn parts_are_aligned_and_apart() {
    for size in [1, 64, 256] {
        let Layout { descriptors, available, used, buffers, end, .. } = Layout::new(12345, size);
        assert!(descriptors.is_multiple_of(16) && available.is_multiple_of(2) && used.is_multiple_of(4));
        let count = usize::from(size);
        assert!(12345 <= descriptors && descriptors + 16 * count <= available);
        assert!(available + 6 + 2 * count <= used, "with room for used_event");
        assert!(used + 6 + 8 * count <= buffers, "with room for avail_event");
        assert_eq!(end, buffers + BUFFER * count);
    }
}
