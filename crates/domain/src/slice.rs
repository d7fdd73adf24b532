//! Which slice an endpoint belongs to.
//!
//! Decides the mapping, bit for bit the one of the Java client's default partitioner, so that any
//! Kafka client that has it and keys by endpoint id lands in the right partition by itself
//! (`docs/reference/topics.md`, ADR 0003).
//! Leaves ownership of slices to `engine`.

use std::fmt;

use crate::ids::EndpointId;

/// The endpoints whose id hashes to one partition number; the unit of ownership. Partition number
/// of every per-endpoint topic = slice number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slice(pub u16);

impl fmt::Display for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// How many slices an installation has, 1 to 256; fixed for its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliceCount(u16);

impl SliceCount {
    /// `None` outside 1 to 256.
    #[must_use]
    pub const fn new(count: u16) -> Option<Self> {
        if count >= 1 && count <= 256 {
            Some(Self(count))
        } else {
            None
        }
    }

    /// The count.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The slice of an endpoint.
    #[must_use]
    pub fn slice_of(self, endpoint: &EndpointId) -> Slice {
        let positive = murmur2(endpoint.as_str().as_bytes()) & 0x7fff_ffff;
        Slice((positive % u32::from(self.0)) as u16)
    }

    /// Every slice, in order.
    pub fn iter(self) -> impl Iterator<Item = Slice> {
        (0..self.0).map(Slice)
    }
}

/// MurmurHash2 with Kafka's seed, as `org.apache.kafka.common.utils.Utils.murmur2` computes it.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut h: u32 = 0x9747_b28c ^ data.len() as u32;
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        h = h.wrapping_mul(M) ^ k;
    }
    if !tail.is_empty() {
        for (i, byte) in tail.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * i);
        }
        h = h.wrapping_mul(M);
    }
    h = (h ^ (h >> 13)).wrapping_mul(M);
    h ^ (h >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn murmur2_agrees_with_the_java_client() {
        for (text, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(text.as_bytes()) as i32, hash, "{text}");
        }
    }

    #[test]
    fn a_slice_is_below_the_count() {
        let count = SliceCount::new(64).unwrap();
        for n in 0..1_000 {
            let id: EndpointId = format!("ep_{n}").parse().unwrap();
            assert!(count.slice_of(&id).0 < 64);
        }
        assert!(SliceCount::new(0).is_none() && SliceCount::new(257).is_none());
    }
}
