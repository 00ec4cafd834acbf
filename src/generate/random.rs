//! The generator's own randomness: small, seeded, and frozen.
//!
//! It exists so that the output of `piperoll generate` depends on the plan alone and never on the version of a
//! library. It is no source of secrets: whoever knows the seed knows everything. Integers only, because floating
//! point differs between machines. Neighbours: every other file of `generate` draws from here.
//!
//! Invariants:
//! 1. The sequence of a seed never changes; a test holds its first values.
//! 2. Streams split off with different labels are independent for our purposes.

/// A SplitMix64 sequence (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014): a
/// counter that moves by an odd constant, and a mixing function over it. Every seed is a good one, zero included.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

/// The step of the counter: 2^64 divided by the golden ratio, made odd.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// Scatters a number over all 64 bits; a bijection.
pub fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

impl Random {
    /// The sequence of `seed`, set apart from the other uses of the same seed by `label`.
    pub fn new(seed: u64, label: u64) -> Self {
        Self { state: mix(seed.wrapping_add(STEP)) ^ mix(label.wrapping_mul(STEP)) }
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(STEP);
        mix(self.state)
    }

    /// A number in `0..bound`; 0 when the bound is 0. The bias is below `bound / 2^64`.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// A number in `low..high`; `low` when the range is empty. For times and durations, which are signed.
    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        let width = high.saturating_sub(low).max(0);
        low + self.below(width.unsigned_abs()) as i64
    }

    /// True in `share` of a thousand draws.
    pub fn permille(&mut self, share: u64) -> bool {
        self.below(1_000) < share
    }

    /// One of the choices, all equally likely. The list must have an element; ours are constants.
    pub fn choose<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// An index into `cumulative`, which holds running sums of weights.
    pub fn weighted(&mut self, cumulative: &[u64]) -> usize {
        let total = cumulative.last().copied().unwrap_or(0);
        let draw = self.below(total);
        cumulative.partition_point(|&sum| sum <= draw)
    }

    /// `digits` lower-case hexadecimal digits.
    pub fn hex(&mut self, digits: usize) -> String {
        let mut text = String::with_capacity(digits.next_multiple_of(16));
        while text.len() < digits {
            text.push_str(&format!("{:016x}", self.next()));
        }
        text.truncate(digits);
        text
    }
}
