//! What is committed beside a frontier: which offsets above it are still incomplete.
//!
//! Decides the form of the commit metadata, always below [`METADATA_BYTES_MAX`] by construction:
//! there is no "map does not fit" branch. Leaves committing to the shell. A map that does not
//! decode, or was made for another frontier, is an error for the caller to answer by replaying
//! from the frontier; it is never trusted in part.
//!
//! Form: base64 (the client library panics on metadata that is not UTF-8) of
//! `version, crc32, position - frontier, holes - 1, gap, gap, …`; the checksum covers the frontier
//! too, numbers are LEB128, and the first hole is the frontier itself. No hole, no metadata.
//!
//! Size: gaps add up to less than [`SPAN_MAX`] = 2^20, so at most 2^20 / 2^14 = 64 of them need
//! three bytes and all others at most two: 5 + 3 + 2 + 2 × 999 + 64 = 2 072 bytes, 2 763 in base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use crate::offsets::{HOLES_MAX, SPAN_MAX};

/// Bound on the text, below the broker's default `offset.metadata.max.bytes` of 4 096.
pub const METADATA_BYTES_MAX: usize = 4_000;

const VERSION: u8 = 1;

/// Position and incomplete offsets of a partition; the frontier is committed as the offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitMap {
    /// One past the highest offset accounted for.
    pub position: i64,
    /// Incomplete offsets, ascending; the first one is the frontier.
    pub holes: Vec<i64>,
}

/// Why commit metadata is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// Not base64.
    NotBase64,
    /// Written by another version.
    UnknownVersion(u8),
    /// Damaged, or written for another frontier.
    Checksum,
    /// Numbers that no map can hold.
    Malformed,
}

impl CommitMap {
    /// Nothing incomplete: the position is the frontier.
    #[must_use]
    pub const fn empty(frontier: i64) -> Self {
        Self {
            position: frontier,
            holes: Vec::new(),
        }
    }

    /// The metadata for a commit at `frontier`, which is the first hole, or the position when
    /// there is none.
    #[must_use]
    pub fn encode(&self, frontier: i64) -> String {
        let Some((&first, rest)) = self.holes.split_first() else {
            return String::new();
        };
        debug_assert!(first == frontier && self.holes.len() <= HOLES_MAX);
        let mut body = Vec::with_capacity(16 + 2 * rest.len());
        push_number(&mut body, self.position - frontier);
        push_number(&mut body, rest.len() as i64);
        let mut last = first;
        for &hole in rest {
            push_number(&mut body, hole - last);
            last = hole;
        }
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&checksum(frontier, &body).to_le_bytes());
        bytes.extend_from_slice(&body);
        STANDARD_NO_PAD.encode(bytes)
    }

    /// Reads metadata committed at `frontier`.
    ///
    /// # Errors
    /// When it is not, whole and unchanged, what [`Self::encode`] wrote for this frontier.
    pub fn decode(frontier: i64, metadata: &str) -> Result<Self, MapError> {
        if metadata.is_empty() {
            return Ok(Self::empty(frontier));
        }
        let bytes = STANDARD_NO_PAD
            .decode(metadata)
            .map_err(|_| MapError::NotBase64)?;
        let (version, rest) = bytes.split_first().ok_or(MapError::Malformed)?;
        if *version != VERSION {
            return Err(MapError::UnknownVersion(*version));
        }
        let (crc, mut body) = rest.split_first_chunk::<4>().ok_or(MapError::Malformed)?;
        if u32::from_le_bytes(*crc) != checksum(frontier, body) {
            return Err(MapError::Checksum);
        }
        Self::decode_body(frontier, &mut body).ok_or(MapError::Malformed)
    }

    fn decode_body(frontier: i64, body: &mut &[u8]) -> Option<Self> {
        let position = frontier.checked_add(pull_number(body)?)?;
        let further = usize::try_from(pull_number(body)?)
            .ok()
            .filter(|n| *n < HOLES_MAX)?;
        let mut holes = Vec::with_capacity(1 + further);
        holes.push(frontier);
        let mut last = frontier;
        for _ in 0..further {
            let gap = pull_number(body)?;
            last = last
                .checked_add(gap)
                .filter(|hole| gap > 0 && *hole < position)?;
            holes.push(last);
        }
        (body.is_empty() && frontier < position).then_some(Self { position, holes })
    }
}

fn checksum(frontier: i64, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&frontier.to_le_bytes());
    hasher.update(body);
    hasher.finalize()
}

/// LEB128; the numbers here are never negative and, [`SPAN_MAX`] being 2^20, three bytes at most.
fn push_number(bytes: &mut Vec<u8>, number: i64) {
    debug_assert!(
        (0..=SPAN_MAX).contains(&number),
        "{number} is out of bounds"
    );
    let mut rest = number.unsigned_abs();
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
}

fn pull_number(bytes: &mut &[u8]) -> Option<i64> {
    let mut number = 0_i64;
    for shift in [0, 7, 14] {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= i64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_hole_needs_no_metadata() {
        assert_eq!(CommitMap::empty(9).encode(9), "");
        assert_eq!(CommitMap::decode(9, ""), Ok(CommitMap::empty(9)));
    }

    #[test]
    fn a_thousand_holes_over_the_whole_span_fit() {
        // The worst case: as many three-byte gaps as the span allows, two-byte ones for the rest.
        let frontier = i64::MAX / 2;
        let mut holes = vec![frontier];
        let mut left = SPAN_MAX - 1;
        for remaining in (0..HOLES_MAX as i64 - 1).rev() {
            let gap = if left - 16_384 >= remaining * 128 {
                16_384
            } else {
                128
            };
            left -= gap;
            holes.push(holes[holes.len() - 1] + gap);
        }
        assert_eq!(holes.len(), HOLES_MAX);
        let map = CommitMap {
            position: frontier + SPAN_MAX,
            holes,
        };
        assert!(map.position > *map.holes.last().unwrap());
        let text = map.encode(frontier);
        assert!(text.len() <= METADATA_BYTES_MAX, "{} bytes", text.len());
        assert_eq!(CommitMap::decode(frontier, &text), Ok(map));
    }

    #[test]
    fn foreign_metadata_is_refused() {
        let map = CommitMap {
            position: 30,
            holes: vec![10, 12],
        };
        let text = map.encode(10);
        assert_eq!(CommitMap::decode(11, &text), Err(MapError::Checksum));
        assert_eq!(CommitMap::decode(10, "NO GOOD"), Err(MapError::NotBase64));
        assert_eq!(
            CommitMap::decode(10, "Ag"),
            Err(MapError::UnknownVersion(2))
        );
        assert_eq!(CommitMap::decode(10, "AQ"), Err(MapError::Malformed));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn every_map_in_bounds_fits_and_reads_back(
            frontier in 0..i64::MAX / 2,
            gaps in prop::collection::vec(prop_oneof![1..4_i64, 1..2_000_i64], 0..HOLES_MAX),
            tail in 1..1_000_i64,
        ) {
            let mut holes = vec![frontier];
            for gap in gaps {
                let next = holes[holes.len() - 1] + gap;
                if next - frontier < SPAN_MAX - tail {
                    holes.push(next);
                }
            }
            let map = CommitMap { position: holes[holes.len() - 1] + tail, holes };
            let text = map.encode(frontier);
            prop_assert!(text.len() <= METADATA_BYTES_MAX, "{} bytes", text.len());
            prop_assert_eq!(CommitMap::decode(frontier, &text), Ok(map));
        }

        #[test]
        fn a_changed_byte_is_noticed(
            gaps in prop::collection::vec(1..300_i64, 1..50),
            at in 0..1_000_usize,
            flip in 1..=255_u8,
        ) {
            let mut holes = vec![5];
            for gap in gaps {
                holes.push(holes[holes.len() - 1] + gap);
            }
            let map = CommitMap { position: holes[holes.len() - 1] + 1, holes };
            let mut bytes = STANDARD_NO_PAD.decode(map.encode(5)).unwrap();
            let at = at % bytes.len();
            bytes[at] ^= flip;
            prop_assert!(CommitMap::decode(5, &STANDARD_NO_PAD.encode(bytes)).is_err());
        }

        #[test]
        fn any_text_is_survived(text in ".{0,80}", frontier in any::<i64>()) {
            let _map = CommitMap::decode(frontier, &text);
        }
    }
}
