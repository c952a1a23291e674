//! The command line.

use std::net::Ipv4Addr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::report::By;

/// Drives an allocated virtio-net device from inside its container, and proves that the doorbell rings.
///
/// Prints one JSON object a line: `up` when the device runs, `done` or `error` at the end; other ways to use a device
/// have an event of their own. The exit code is 0 if
/// everything that was asked for was had.
#[derive(Debug, Clone, Parser)]
#[command(name = "doorbell-probe", version, args_conflicts_with_subcommands = true)]
pub struct Options {
    /// Something else to do with the device
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Folder of the descriptors [default: $DOORBELL_DESCRIPTORS, or /run/doorbell]
    #[arg(long, global = true, value_name = "FOLDER")]
    pub descriptors: Option<PathBuf>,

    /// Id of the device to drive, where the container has several
    #[arg(long, global = true, value_name = "ID")]
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
    #[arg(long, global = true, default_value_t = 60)]
    pub seconds: u64,

    /// Only map so many bytes for DMA, in one mapping, and tell whether that could be had
    #[arg(long, value_name = "N", conflicts_with_all = ["hold", "open"])]
    pub map_bytes: Option<NonZeroUsize>,

    /// Milliseconds to wait for a device that another holder is closing
    #[arg(long, global = true, value_name = "MS", default_value_t = 2000)]
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

/// What else may be done with a device.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Only measure what ringing costs: by the mapped page, by a `pwrite` on the region, and by an eventfd that another
    /// thread reads
    ///
    /// Prints one `bench` event, all of it in nanoseconds. A ring is timed while the device has nothing to do: what it
    /// costs who rings, by a store to the page, by a `pwrite` of two bytes, and by a `write` of eight to an eventfd that a
    /// thread waits for and does no more with. A round trip is from before a frame is put into the transmit queue until
    /// the device has used it, rung by the page, by a `pwrite`, and by an eventfd whose reader, another thread, rings by
    /// its own mapping of the page.
    Bench(Bench),
}

/// How often things are measured.
#[derive(Debug, Clone, Args)]
pub struct Bench {
    /// Rings to time, each way
    #[arg(long, value_name = "N", default_value = "20000")]
    pub rings: NonZeroU32,

    /// Round trips to time, each way
    #[arg(long, value_name = "N", default_value = "1000")]
    pub round_trips: NonZeroU32,

    /// Turns that each way has, one after the other, for its share of both
    #[arg(long, value_name = "N", default_value = "5")]
    pub turns: NonZeroU32,
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
        assert_eq!(by("pwrite").unwrap(), Some(By::Pwrite));
        assert_eq!(by("relayed").unwrap(), Some(By::Relayed));
        assert!(by("kernel").is_err());
    }

    fn parse(line: &str) -> Result<Options, clap::Error> {
        Options::try_parse_from(["doorbell-probe"].into_iter().chain(line.split_whitespace()))
    }

    #[test]
    fn a_bench_has_a_device_and_counts() {
        let all =
            parse("bench --device 0000:01:00.1 --seconds 0 --rings 7 --round-trips 3 --turns 2").unwrap();
        assert_eq!((all.device.as_deref(), all.bound()), (Some("0000:01:00.1"), None));
        let Some(Command::Bench(bench)) = all.command else { panic!("no bench: {all:?}") };
        assert_eq!([bench.rings, bench.round_trips, bench.turns].map(NonZeroU32::get), [7, 3, 2]);
    }

    #[test]
    fn a_bench_of_nothing_and_one_beside_another_use_are_refused() {
        for line in
            ["bench --rings 0", "bench --round-trips 0", "bench --turns 0", "--hold bench", "bench --hold"]
        {
            assert!(parse(line).is_err(), "{line}");
        }
        assert!(parse("bench").is_ok());
    }
}
