//! The same work for many devices, on the cores that there are: a read of sysfs waits for the device behind it.

use std::num::NonZero;
use std::panic::resume_unwind;
use std::thread;

/// More would wait for the same locks of the kernel's.
const THREADS: usize = 4;
/// What a thread is worth starting for.
const AT_LEAST: usize = 64;

/// What `work` makes of each item, in their order. `costly` of them take time: threads are started for these.
pub(crate) fn map<T: Sync, R: Send>(items: &[T], costly: usize, work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = cores.min(THREADS).min(costly / AT_LEAST);
    if threads < 2 {
        return items.iter().map(work).collect();
    }
    let work = &work;
    thread::scope(|scope| {
        let parts = items.chunks(items.len().div_ceil(threads));
        let parts: Vec<_> =
            parts.map(|part| scope.spawn(move || part.iter().map(work).collect::<Vec<_>>())).collect();
        parts.into_iter().flat_map(|part| part.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_of_many_items_is_in_their_order() {
        let items: Vec<u32> = (0..1000).collect();
        assert_eq!(map(&items, 1000, |item| item * 2), items.iter().map(|item| item * 2).collect::<Vec<_>>());
        assert!(map(&[], 0, |(): &()| ()).is_empty());
    }
}
