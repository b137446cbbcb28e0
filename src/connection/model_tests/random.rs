//! Chance with a seed: the same word gives the same case, on every machine.

use crate::id::MessageId;

/// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
#[derive(Clone)]
pub(in crate::connection) struct Random(pub(in crate::connection) u64);

impl Random {
    pub(in crate::connection) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to below `end`, which is at least 1.
    pub(in crate::connection) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub(in crate::connection) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(in crate::connection) fn id(&mut self) -> MessageId {
        const ALPHABET: &[u8; 64] =
            b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_-";
        let mut bits = u128::from(self.next()) << 64 | u128::from(self.next());
        let mut text = [0; MessageId::LEN];
        for byte in &mut text {
            *byte = ALPHABET[(bits & 63) as usize];
            bits >>= 6;
        }
        MessageId::parse(&text).expect("it has the form of an id")
    }
}
