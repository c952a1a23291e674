//! `bench`: what ringing costs who rings, and how long the device takes to have done what it was rung for, by each way
//! to ring. What exactly is compared is in the documentation of [`crate::report::Benched`].
//!
//! The ways take turns, so that a machine that slows down does so for all of them. For each turn the device is brought
//! up anew, as its queues have one bell.

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::attach::{self, Open};
use crate::descriptor::Device;
use crate::doorbell::relay::Relay;
use crate::line::Wish;
use crate::net::ethernet;
use crate::nic::{self, Nic};
use crate::options::{Bench, Options};
use crate::report::{Benched, By, Rings, RoundTrips};
use crate::spread::Spread;
use crate::stop::Stop;

/// Rings of a sample: the clock is read twice for all of them.
const A_SAMPLE: u32 = 100;
/// Round trips tried for each that is to count.
const TRIES: u32 = 10;

/// Samples of one way, in nanoseconds.
#[derive(Debug, Default)]
struct Samples {
    rings: Vec<f64>,
    round_trips: Vec<f64>,
    unasked: u64,
}

/// Measures a network function that is driven by VFIO.
pub(crate) fn bench(device: &Device, options: &Options, wish: &Bench, stop: &Stop) -> Result<Benched> {
    let (space, open) = attach::attach(device, options.patience())?;
    ensure!(
        matches!(open, Open::Function(_)),
        "{} is no function: `bench` is of devices that are driven by VFIO",
        device.id
    );
    let kind = open.virtio_type(device)?;
    ensure!(
        kind == nic::DEVICE_TYPE,
        "{} is a virtio device of type {kind}, not {}",
        device.id,
        nic::DEVICE_TYPE
    );
    let line = Wish { queue_size: options.queue_size, dma_bytes: options.dma_bytes };
    let up = |by| {
        let nic = open.virtio(device, by).and_then(|virtio| Nic::bring_up(virtio, &space, line));
        nic.with_context(|| format!("bring {} up", device.id))
    };

    let [mut mapped, mut pwrite, mut relayed] = [(); 3].map(|()| Samples::default());
    let mut kicks = Vec::new();
    for turn in 0..wish.turns.get() {
        let share = |of: u32| share(of, wish.turns.get(), turn);
        for (by, samples) in
            [(By::Mapped, &mut mapped), (By::Pwrite, &mut pwrite), (By::Relayed, &mut relayed)]
        {
            let mut nic = up(by)?;
            // Who rings by the relay only kicks, which is measured without a device that is rung meanwhile.
            if by != By::Relayed {
                time_rings(share(wish.rings.get()), stop, &mut samples.rings, || nic.ring())?;
            }
            samples.go_round(&mut nic, share(wish.round_trips.get()), stop)?;
        }
        let relay = Relay::start(|| Ok(|| ()))?;
        time_rings(share(wish.rings.get()), stop, &mut kicks, || relay.kick().context("kick"))?;
    }

    let unasked = mapped.unasked + pwrite.unasked + relayed.unasked;
    let spread = |samples| Spread::of(samples).context("nothing was measured");
    Ok(Benched {
        device: device.id.clone(),
        rings: Rings {
            mapped: spread(mapped.rings)?,
            pwrite: spread(pwrite.rings)?,
            eventfd: spread(kicks)?,
        },
        rings_a_sample: A_SAMPLE,
        round_trips: RoundTrips {
            mapped: spread(mapped.round_trips)?,
            pwrite: spread(pwrite.round_trips)?,
            relayed: spread(relayed.round_trips)?,
        },
        unasked,
    })
}

impl Samples {
    /// So many round trips that count.
    fn go_round(&mut self, nic: &mut Nic, count: u32, stop: &Stop) -> Result<()> {
        // To ourselves, which no station takes.
        let frame = ethernet::build(nic.mac(), nic.mac(), ethernet::EXPERIMENT, b"doorbell-probe bench");
        let (mut done, mut tried) = (0, 0);
        while done < count {
            in_time(stop)?;
            ensure!(
                tried / TRIES < count,
                "the device wanted to be rung for {done} of {tried} frames only: it looks at its queue by itself"
            );
            tried += 1;
            match nic.round_trip(&frame)? {
                Some(took) => {
                    done += 1;
                    self.round_trips.push(took.as_nanos() as f64);
                }
                None => self.unasked += 1,
            }
        }
        Ok(())
    }
}

/// Rings so often, and keeps the mean of each few.
fn time_rings(
    mut count: u32,
    stop: &Stop,
    samples: &mut Vec<f64>,
    mut ring: impl FnMut() -> Result<()>,
) -> Result<()> {
    while count > 0 {
        in_time(stop)?;
        let now = count.min(A_SAMPLE);
        let began = Instant::now();
        for _ in 0..now {
            ring()?;
        }
        samples.push(began.elapsed().as_nanos() as f64 / f64::from(now));
        count -= now;
    }
    Ok(())
}

fn in_time(stop: &Stop) -> Result<()> {
    if stop.now() {
        bail!("it was to end before all was measured");
    }
    Ok(())
}

/// What is done in a turn of so many: the shares of all turns are the whole.
fn share(of: u32, turns: u32, turn: u32) -> u32 {
    of / turns + u32::from(turn < of % turns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_of_all_turns_are_the_whole() {
        for (of, turns) in [(10, 3), (3, 10), (1000, 5), (1, 1)] {
            let shares: Vec<u32> = (0..turns).map(|turn| share(of, turns, turn)).collect();
            assert_eq!(shares.iter().sum::<u32>(), of, "{shares:?}");
            assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1, "{shares:?}");
        }
    }

    #[test]
    fn every_ring_is_rung_and_each_few_are_a_sample() {
        let stop = Stop::arm(None).unwrap();
        let (mut rung, mut samples) = (0, Vec::new());
        let ring = || {
            rung += 1;
            Ok(())
        };
        time_rings(2 * A_SAMPLE + 1, &stop, &mut samples, ring).unwrap();
        assert_eq!((rung, samples.len()), (2 * A_SAMPLE + 1, 3));
    }

    #[test]
    fn what_is_to_end_is_not_measured_to_its_end() {
        let stop = Stop::arm(Some(std::time::Duration::ZERO)).unwrap();
        let error = time_rings(1, &stop, &mut Vec::new(), || Ok(())).unwrap_err();
        assert_eq!(error.to_string(), "it was to end before all was measured");
    }
}
