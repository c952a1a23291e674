//! What ringing costs, as `bench` found it.

use serde::{Deserialize, Serialize};

use crate::spread::Spread;

/// What ringing costs. All times are in nanoseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Benched {
    /// Device id.
    pub device: String,
    /// What a ring costs who rings, while the device has nothing to do: a sample is the mean of so many rings in a row.
    pub rings: Rings,
    /// Rings a sample, at most.
    pub rings_a_sample: u32,
    /// From before a frame is put into the transmit queue until the device has used it; one frame a sample.
    pub round_trips: RoundTrips,
    /// Round trips that do not count, as the device was looking at its queue by itself.
    pub unasked: u64,
}

/// Ways to ring, by what each costs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rings {
    /// A 16-bit store to the mapped page.
    pub mapped: Spread,
    /// A `pwrite` of two bytes to the same place in the region.
    pub pwrite: Spread,
    /// A `write` of eight bytes to an eventfd that another thread is reading: nobody is rung.
    pub eventfd: Spread,
}

/// Ways to ring, by how long it takes until the device has done its part.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoundTrips {
    /// By a store to the mapped page.
    pub mapped: Spread,
    /// By a `pwrite` to the region.
    pub pwrite: Spread,
    /// By an eventfd, whose reader, another thread, rings by a mapping of the page.
    pub relayed: Spread,
}
