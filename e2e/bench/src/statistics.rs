//! Medians, percentiles and the exponent of growth.

/// The value below which that part of all values is: 0.5 is the median. `values` has at least one.
#[must_use]
pub fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index"
    )]
    let at = ((sorted.len() - 1) as f64 * part).round() as usize;
    sorted[at]
}

/// The middle value.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// How a cost grows with size: the slope of the line through `(size, cost)` on logarithmic axes, by least squares.
#[must_use]
pub fn exponent(points: &[(f64, f64)]) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a handful of points")]
    let count = points.len() as f64;
    let logs: Vec<(f64, f64)> = points.iter().map(|(size, cost)| (size.ln(), cost.ln())).collect();
    let (x, y) = logs.iter().fold((0.0, 0.0), |(x, y), (a, b)| (x + a / count, y + b / count));
    let (covariance, variance) =
        logs.iter().fold((0.0, 0.0), |(c, v), (a, b)| (c + (a - x) * (b - y), v + (a - x).powi(2)));
    covariance / variance
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_value_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]).to_bits(), 2.0_f64.to_bits());
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0, 100.0], 0.99).to_bits(), 100.0_f64.to_bits());
    }

    #[test]
    fn a_square_grows_by_two() {
        let squares = [(1.0, 3.0), (2.0, 12.0), (4.0, 48.0)];
        assert!((exponent(&squares) - 2.0).abs() < 1e-9);
    }
}
