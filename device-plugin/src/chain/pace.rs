//! How fast an entry is put back that somebody takes out again and again.
//!
//! A main CNI plugin writes its configuration some times when it starts, and is answered at once. Who writes it whenever
//! it is another than theirs (Cilium, where it is to be the only one) would be at it with us for good: each write in a row
//! waits longer than the one before.

use std::time::{Duration, Instant};

/// Writes in a row that wait for nothing.
const AT_ONCE: u32 = 5;
/// The wait before the next, which doubles with each after it.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(600);
/// For how long nobody takes out what ends a row.
const CALM: Duration = Duration::from_secs(600);

/// The writes so far.
#[derive(Debug, Default)]
pub struct Pace {
    last: Option<Instant>,
    row: u32,
}

impl Pace {
    /// How long a write has to wait yet.
    #[must_use]
    pub fn wait(&self, now: Instant) -> Duration {
        let since = self.last.map_or(LONGEST, |last| now.duration_since(last));
        self.due().saturating_sub(since)
    }

    /// There was a write.
    pub fn wrote(&mut self, now: Instant) {
        self.row = if self.is_calm(now) { 1 } else { self.row.saturating_add(1) };
        self.last = Some(now);
    }

    /// Whether somebody is at it with us.
    #[must_use]
    pub fn is_contested(&self, now: Instant) -> bool {
        self.row >= AT_ONCE && !self.is_calm(now)
    }

    fn is_calm(&self, now: Instant) -> bool {
        self.last.is_none_or(|last| now.duration_since(last) > self.due() + CALM)
    }

    /// From the last write to the next.
    fn due(&self) -> Duration {
        let doubled = self.row.checked_sub(AT_ONCE).map(|late| 2u32.saturating_pow(late));
        doubled.map_or(Duration::ZERO, |times| FIRST.saturating_mul(times).min(LONGEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The waits of one who is answered each time as soon as it may be.
    fn waits(pace: &mut Pace, now: &mut Instant, writes: usize) -> Vec<u64> {
        let mut write = || {
            let wait = pace.wait(*now);
            *now += wait;
            pace.wrote(*now);
            wait.as_secs()
        };
        (0..writes).map(|_| write()).collect()
    }

    #[test]
    fn the_first_in_a_row_wait_for_nothing_and_each_later_one_longer() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        assert!(!pace.is_contested(now));
        assert_eq!(waits(&mut pace, &mut now, 9), [0, 0, 0, 0, 0, 1, 2, 4, 8]);
        assert!(pace.is_contested(now));
        assert_eq!(waits(&mut pace, &mut now, 1000).last(), Some(&LONGEST.as_secs()));
    }

    #[test]
    fn who_lets_it_be_for_long_is_answered_at_once_again() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        waits(&mut pace, &mut now, 7);
        // The next would be due after 4 s.
        now += CALM;
        assert!(pace.is_contested(now), "once in ten minutes is a row as well");
        now += Duration::from_secs(5);
        assert!(!pace.is_contested(now));
        assert_eq!(waits(&mut pace, &mut now, 6), [0, 0, 0, 0, 0, 1]);
    }
}
