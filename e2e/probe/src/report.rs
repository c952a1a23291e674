//! What the probe says on stdout: one JSON object a line, told apart by `event`.

mod benched;
mod opened;

use std::fs;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use doorbell_common::doorbell::Granularity;
use serde::{Deserialize, Serialize};

use crate::memlock;

pub use benched::{Benched, Rings, RoundTrips};
pub use opened::{Disk, Found, Opened, Vdpa, Vfio};

/// A line of output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Event {
    /// The device is kept from others (`--hold`).
    Held(Held),
    /// The device may reach so much memory (`--map-bytes`).
    Mapped(Mapped),
    /// The device is open, and what was found (`--open`).
    Opened(Opened),
    /// The device is up, its doorbell proven, its address answers.
    Up(Up),
    /// What ringing costs (`bench`).
    Bench(Benched),
    /// The end, after everything that was asked for and could be had.
    Done(Done),
    /// The end, because something failed.
    Error {
        /// What was tried on what, and how it failed.
        message: String,
        /// The soft limit on locked memory in bytes, null where there is none: what a failed mapping ran into.
        memlock_limit: Option<u64>,
    },
}

/// A device kept from others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    /// Device id.
    pub device: String,
    /// The node that is taken: the group's, or the device's own.
    pub node: String,
}

/// Memory mapped for the device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mapped {
    /// Device id.
    pub device: String,
    /// Bytes of the mapping: what was asked for, in whole pages.
    pub bytes: usize,
    /// The soft limit on locked memory in bytes, null where there is none.
    pub memlock_limit: Option<u64>,
}

/// The device as it came up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Up {
    /// Device id.
    pub device: String,
    /// The device's MAC address.
    pub mac: String,
    /// The address that answers.
    pub ip: Ipv4Addr,
    /// Interface name in `attachment.json`, where there is one.
    pub interface: Option<String>,
    /// Feature bits agreed on, in hex.
    pub features: String,
    /// Bytes that the device may reach.
    pub dma_bytes: usize,
    /// The doorbell.
    pub doorbell: Doorbell,
    /// What the first frames proved.
    pub proof: Proof,
    /// Microseconds from opening the first node to holding the device, its reset included.
    pub open_micros: u64,
    /// Microseconds from there to a running device.
    pub bring_up_micros: u64,
}

/// What the first frames proved of the doorbell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Proof {
    /// The device left a frame alone until it was rung: it was the doorbell that moved it.
    pub quiet_before_ring: bool,
    /// Microseconds from the ring to the frame used; absent where the device had not waited for it.
    pub ring_to_used_micros: Option<u64>,
}

/// The end of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Done {
    /// Device id.
    pub device: String,
    /// The device's MAC address.
    pub mac: String,
    /// The doorbell and its use.
    pub doorbell: Rung,
    /// Echo requests sent, where any were asked for.
    pub ping: Option<Ping>,
    /// Echo requests of others, answered.
    pub answered: u64,
    /// Frames received and sent.
    pub frames: PerQueue,
    /// Bytes that the device could reach.
    pub dma_bytes: usize,
    /// What was asked for and not had; then the exit code is 1.
    pub missed: Option<String>,
}

/// What rings a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "camelCase")]
pub enum By {
    /// A write to a mapped page of the device.
    Mapped,
    /// A `pwrite` to the same place in the device's region, where it is a function: the kernel writes.
    Pwrite,
    /// A write to an eventfd that the kernel listens to, who rings then.
    Eventfd,
    /// A write to an eventfd that a thread of ours waits for, who writes to a mapped page then.
    Relayed,
}

/// A doorbell; its place, as far as the descriptor has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Doorbell {
    /// What rings.
    pub by: By,
    /// BAR and VFIO region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<u8>,
    /// Bytes from the start of the region to the notify area.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u32>,
    /// What one page of it rings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub granularity: Option<Granularity>,
}

/// A doorbell, and how often it was rung.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rung {
    /// The doorbell.
    #[serde(flatten)]
    pub which: Doorbell,
    /// Writes to the mapped page, or to the eventfds.
    pub writes: PerQueue,
    /// Times that the device was looking already and wanted no write.
    pub spared: PerQueue,
}

/// A number for each queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PerQueue {
    /// Of the receive queue.
    pub rx: u64,
    /// Of the transmit queue.
    pub tx: u64,
}

/// How a ping went. Round trips are absent where no reply came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ping {
    /// Echo requests sent; none if the target's MAC address was not found.
    pub sent: u32,
    /// Replies in time.
    pub received: u32,
    /// Shortest round trip.
    pub rtt_micros_min: Option<u64>,
    /// Mean round trip.
    pub rtt_micros_avg: Option<u64>,
    /// Longest round trip.
    pub rtt_micros_max: Option<u64>,
}

impl Ping {
    /// From the number of requests, and the round trips of those that were answered.
    pub(crate) fn new(sent: u32, round_trips: &[u64]) -> Self {
        let count = round_trips.len() as u64;
        Self {
            sent,
            received: round_trips.len() as u32,
            rtt_micros_min: round_trips.iter().min().copied(),
            rtt_micros_avg: round_trips.iter().sum::<u64>().checked_div(count),
            rtt_micros_max: round_trips.iter().max().copied(),
        }
    }
}

impl Event {
    /// The end of this process, because something failed.
    #[must_use]
    pub fn error(message: String) -> Self {
        Self::Error { message, memlock_limit: memlock::limit() }
    }

    /// The event as a line of JSON, with its line end.
    fn line(&self) -> Result<String> {
        Ok(serde_json::to_string(self).context("write an event as JSON")? + "\n")
    }

    /// Prints the event.
    pub fn print(&self) -> Result<()> {
        let line = self.line()?;
        let mut out = io::stdout().lock();
        out.write_all(line.as_bytes()).and_then(|()| out.flush()).context("write to stdout")
    }

    /// Leaves the event in a file, whole from the moment it is there.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        let mut name = path.file_name().context("the path of a file has a name")?.to_owned();
        name.push(".tmp");
        let temporary = path.with_file_name(name);
        fs::write(&temporary, self.line()?)
            .and_then(|()| fs::rename(&temporary, path))
            .with_context(|| format!("write {}", path.display()))
    }
}

/// Microseconds, which no run has too many of.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
