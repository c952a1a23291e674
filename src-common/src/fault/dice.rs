//! Dice whose throws follow from a seed, so that what was found by chance is found again.

/// A sequence of throws (SplitMix64).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// The sequence of a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `sides`, which is not 0.
    pub fn below(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut throw = self.0;
        throw = (throw ^ (throw >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        throw = (throw ^ (throw >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (throw ^ (throw >> 31)) % sides
    }

    /// Whether one of so many throws comes up.
    pub fn one_in(&mut self, sides: u64) -> bool {
        self.below(sides) == 0
    }

    /// One of several.
    pub fn pick<T: Clone>(&mut self, several: &[T]) -> T {
        let place = self.below(u64::try_from(several.len()).unwrap_or(u64::MAX));
        several[usize::try_from(place).unwrap_or_default()].clone()
    }
}
