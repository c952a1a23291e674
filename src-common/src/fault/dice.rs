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

    /// A text with some of its bytes changed, gone, doubled or cut off, as bad memory and bad authors do.
    #[must_use]
    pub fn damage(&mut self, text: &[u8]) -> Vec<u8> {
        let mut damaged = text.to_vec();
        for _ in 0..=self.below(4) {
            let length = u64::try_from(damaged.len()).unwrap_or(u64::MAX);
            let at = usize::try_from(self.below(length.max(1))).unwrap_or_default();
            let end = (at + 1 + usize::try_from(self.below(12)).unwrap_or_default()).min(damaged.len());
            // Where something is put in, it is most often what means something to a parser.
            let meaning = b"{}[]\",:-\n \x0019#/.\xff";
            match self.below(6) {
                _ if at >= damaged.len() => damaged.push(self.pick(meaning)),
                0 => damaged[at] = self.pick(meaning),
                1 => damaged[at] ^= 1 << self.below(8),
                2 => drop(damaged.drain(at..end)),
                3 => damaged.insert(at, self.pick(meaning)),
                4 => {
                    let again = damaged[at..end].to_vec();
                    damaged.splice(at..at, again);
                }
                _ if self.one_in(4) => damaged.truncate(at),
                _ => {}
            }
        }
        damaged
    }

    /// One of several.
    pub fn pick<T: Clone>(&mut self, several: &[T]) -> T {
        let place = self.below(u64::try_from(several.len()).unwrap_or(u64::MAX));
        several[usize::try_from(place).unwrap_or_default()].clone()
    }
}
