//! What many measurements of one thing say together.

use serde::{Deserialize, Serialize};

/// Measurements by their order, in the unit that they were made in.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spread {
    /// How many there were.
    pub count: usize,
    /// The least.
    pub min: f64,
    /// The median.
    pub p50: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The most.
    pub max: f64,
}

impl Spread {
    /// Of measurements in any order; `None` where there is none.
    #[must_use]
    pub fn of(mut samples: Vec<f64>) -> Option<Self> {
        samples.sort_by(f64::total_cmp);
        let (min, max) = (*samples.first()?, *samples.last()?);
        Some(Self {
            count: samples.len(),
            min,
            p50: percentile(&samples, 50.0)?,
            p99: percentile(&samples, 99.0)?,
            max,
        })
    }
}

/// A percentile of sorted measurements, between the two nearest in proportion to their distance: the 50th is the median
/// as it is usually told. `None` where there is no measurement.
#[must_use]
pub fn percentile(sorted: &[f64], percent: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = percent.clamp(0.0, 100.0) / 100.0 * last as f64;
    let (below, above) = (sorted.get(place.floor() as usize)?, sorted.get(place.ceil() as usize)?);
    Some(below + (above - below) * place.fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_two_in_it() {
        let median = |samples: &[f64]| Spread::of(samples.to_vec()).unwrap().p50;
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(median(&[7.0]), 7.0);
    }

    #[test]
    fn a_percentile_is_in_proportion_between_its_neighbours() {
        let sorted: Vec<f64> = (0..=100).map(f64::from).collect();
        for percent in [0.0, 1.0, 50.0, 99.0, 99.5, 100.0] {
            assert_eq!(percentile(&sorted, percent), Some(percent));
        }
        assert_eq!(percentile(&[1.0, 2.0], 25.0), Some(1.25));
        assert_eq!(percentile(&[1.0, 2.0], 200.0), Some(2.0));
    }

    #[test]
    fn all_is_told_of_measurements_in_any_order_and_nothing_of_none() {
        let spread = Spread::of(vec![2.0, 9.0, 1.0]).unwrap();
        assert_eq!((spread.count, spread.min, spread.max), (3, 1.0, 9.0));
        assert!(spread.p99 < 9.0 && spread.p99 > 8.0);
        assert_eq!(Spread::of(Vec::new()), None);
        assert_eq!(percentile(&[], 50.0), None);
    }
}
