//! The command line.

use std::net::Ipv4Addr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::report::By;

/// Drives an allocated virtio-net device from inside its container, and proves that the doorbell rings.
///
/// Prints one JSON object a line: `up` when the device runs, `done` or `error` at the end; other ways to use a device
/// have an event of their own. The exit code is 0 if
/// everything that was asked for was had.
#[derive(Debug, Clone, Parser)]
#[command(name = "doorbell-probe", version)]
pub struct Options {
    /// Folder of the descriptors [default: $DOORBELL_DESCRIPTORS, or /run/doorbell]
    #[arg(long, value_name = "FOLDER")]
    pub descriptors: Option<PathBuf>,

    /// Id of the device to drive, where the container has several
    #[arg(long, value_name = "ID")]
    pub device: Option<String>,

    /// Address to answer for [default: the first IPv4 address in attachment.json]
    #[arg(long)]
    pub ip: Option<Ipv4Addr>,

    /// Address to send echo requests to
    #[arg(long, value_name = "IP")]
    pub ping: Option<Ipv4Addr>,

    /// Echo requests to send
    #[arg(long, default_value_t = 5)]
    pub count: u32,

    /// Milliseconds from one echo request to the next
    #[arg(long, value_name = "MS", default_value_t = 100)]
    pub interval_ms: u64,

    /// Milliseconds to wait for an echo reply
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    pub reply_ms: u64,

    /// Seconds to wait for the pinged address to answer ARP at all
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub wait: u64,

    /// Seconds to answer echo requests for, after the ping
    #[arg(long, value_name = "SECONDS")]
    pub serve_seconds: Option<u64>,

    /// Stop serving once so many echo requests are answered, and miss them if they do not come
    #[arg(long, value_name = "N")]
    pub serve_replies: Option<u64>,

    /// Serve, or stay open, until SIGTERM, SIGINT or the end of stdin, if that is an open pipe
    #[arg(long)]
    pub linger: bool,

    /// Only keep the device from others; ends as --linger does
    #[arg(long)]
    pub hold: bool,

    /// Only open the device, of whatever kind, and tell what it is: reset an mdev, read a disk
    #[arg(long, conflicts_with = "hold")]
    pub open: bool,

    /// What to ring by [default: as the descriptor says]
    #[arg(long, value_name = "WAY")]
    pub doorbell: Option<By>,

    /// Seconds after which everything ends, however far it got; 0 for no such bound
    #[arg(long, default_value_t = 60)]
    pub seconds: u64,

    /// Only map so many bytes for DMA, in one mapping, and tell whether that could be had
    #[arg(long, value_name = "N", conflicts_with_all = ["hold", "open"])]
    pub map_bytes: Option<NonZeroUsize>,

    /// Milliseconds to wait for a device that another holder is closing
    #[arg(long, value_name = "MS", default_value_t = 2000)]
    pub busy_ms: u64,

    /// Descriptors a queue; the device and the next lower power of two limit it
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub queue_size: u16,

    /// Bytes to map for DMA, if more than the queues need: shows the limit on locked memory
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub dma_bytes: usize,

    /// File to leave the `up` line in
    #[arg(long, value_name = "FILE")]
    pub up_file: Option<PathBuf>,
}

impl Options {
    /// The bound over everything.
    pub(crate) fn bound(&self) -> Option<Duration> {
        (self.seconds > 0).then(|| Duration::from_secs(self.seconds))
    }

    /// How long to wait for a busy device.
    pub(crate) fn patience(&self) -> Duration {
        Duration::from_millis(self.busy_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Options::command().debug_assert();
    }

    #[test]
    fn a_way_to_ring_is_named_as_in_the_events() {
        let by = |way| Options::try_parse_from(["doorbell-probe", "--doorbell", way]).map(|all| all.doorbell);
        assert_eq!(by("mapped").unwrap(), Some(By::Mapped));
        assert_eq!(by("eventfd").unwrap(), Some(By::Eventfd));
        assert!(by("kernel").is_err());
    }
}
