//! How the CNI binary's calls went: counted by each call in one file, told by the plugin's metrics. A process that lives
//! for milliseconds has no other way to be asked.
//!
//! The file is whole at any moment, and of a size that does not grow with the calls. It goes with `/run` at a reboot.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::claim;
use crate::host::{Host, HostError};

/// Where it lies.
pub const FOLDER: &str = "/run/doorbell/calls";
const FILE: &str = "/run/doorbell/calls/cni.json";

/// Upper bounds of a histogram of durations, in microseconds: a call of our own takes milliseconds, one that waits seconds.
pub const BOUNDS: [u64; 12] = [
    1_000, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 10_000_000,
    30_000_000,
];

/// Calls by verb, as the protocol has it.
pub type Calls = BTreeMap<String, Outcomes>;

/// What became of the calls of a verb.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcomes {
    /// How many ended with each code; 0: done.
    pub codes: BTreeMap<u32, u64>,
    /// How long they took, in all, in microseconds.
    pub micros: u64,
    /// How many took no longer than each of [`BOUNDS`], and longer than the one before.
    pub within: [u64; BOUNDS.len()],
}

impl Outcomes {
    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.codes.values().sum()
    }

    fn add(&mut self, code: u32, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        *self.codes.entry(code).or_default() += 1;
        self.micros = self.micros.saturating_add(micros);
        if let Some(bucket) = BOUNDS.iter().position(|bound| micros <= *bound) {
            self.within[bucket] += 1;
        }
    }
}

/// Counts a call. What fails leaves the count as it was: a call is not failed for it, nor kept waiting.
pub fn count(host: &Host, verb: &str, code: u32, took: Duration) {
    let counted = || -> Result<(), claim::ClaimError> {
        host.make_folder(FOLDER)?;
        let _lock = claim::lock_briefly(host, FOLDER)?;
        let mut calls = read(host).unwrap_or_default();
        calls.entry(verb.to_owned()).or_default().add(code, took);
        let text = serde_json::to_vec(&calls).expect("counts are JSON");
        Ok(host.replace(FILE, &text)?)
    };
    // There is nobody to tell: stdout is the protocol's, and the call's own failure matters more.
    let _ = counted();
}

/// All that is counted since the boot. What is no count of ours counts as none.
pub fn read(host: &Host) -> Result<Calls, HostError> {
    let text = host.read_if_any(FILE)?;
    Ok(text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::thread;

    use super::*;

    #[test]
    fn calls_that_come_at_once_are_all_counted() {
        let folder = tempfile::tempdir().unwrap();
        let host = Host::at(folder.path());
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| (0..20).for_each(|_| count(&host, "ADD", 0, Duration::from_micros(700))));
            }
        });
        count(&host, "ADD", 11, Duration::from_secs(60));
        count(&host, "DEL", 0, Duration::from_millis(5));
        let calls = read(&host).unwrap();
        let add = &calls["ADD"];
        assert_eq!((add.count(), add.codes[&0], add.codes[&11]), (41, 40, 1));
        assert_eq!((add.within[0], add.within.iter().sum::<u64>()), (40, 40));
        assert_eq!(add.micros, 60_028_000);
        assert_eq!(calls["DEL"].within[1], 1);
    }

    #[test]
    fn what_cannot_be_read_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let host = Host::at(folder.path());
        count(&host, "ADD", 0, Duration::ZERO);
        fs::write(host.path(FILE), "half a").unwrap();
        assert!(read(&host).unwrap().is_empty());
        count(&host, "DEL", 0, Duration::ZERO);
        assert_eq!(read(&host).unwrap().keys().collect::<Vec<_>>(), ["DEL"]);
    }
}
