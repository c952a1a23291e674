//! The token bucket before PodResources: 100 queries a second, a burst of 10 (the kubelet's defaults).

use std::{
    sync::{Mutex, PoisonError},
    time::Instant,
};

use tonic::Status;

/// `DefaultQPS` of the kubelet's PodResources server.
const QUERIES_PER_SECOND: f64 = 100.0;
/// `DefaultBurstTokens`.
const BURST: f64 = 10.0;

/// A bucket that is full at first.
#[derive(Debug)]
pub(crate) struct RateLimit {
    bucket: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl RateLimit {
    pub(crate) fn new(now: Instant) -> Self {
        Self { bucket: Mutex::new(Bucket { tokens: BURST, filled: now }) }
    }

    /// Takes a token, or refuses in the kubelet's words.
    pub(crate) fn allow(&self, now: Instant) -> Result<(), Status> {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let gained = now.saturating_duration_since(bucket.filled).as_secs_f64() * QUERIES_PER_SECOND;
        bucket.tokens = (bucket.tokens + gained).min(BURST);
        bucket.filled = now;
        if bucket.tokens < 1.0 {
            return Err(rejected());
        }
        bucket.tokens -= 1.0;
        Ok(())
    }
}

/// The kubelet's refusal.
pub(crate) fn rejected() -> Status {
    Status::resource_exhausted("rejected by rate limit")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_of_ten_passes_and_the_rate_refills_it() {
        let start = Instant::now();
        let limit = RateLimit::new(start);
        assert_eq!((0..20).filter(|_| limit.allow(start).is_ok()).count(), 10);
        let later = start + Duration::from_millis(35);
        assert_eq!((0..20).filter(|_| limit.allow(later).is_ok()).count(), 3);
        let much_later = start + Duration::from_secs(60);
        assert_eq!((0..20).filter(|_| limit.allow(much_later).is_ok()).count(), 10);
    }
}
