//! Commit metadata of any text.
//!
//! Input: a line with the frontier, and the metadata; or numbers to make a map of.

use postrider_engine::commit_map::{CommitMap, METADATA_BYTES_MAX};
use postrider_engine::offsets::{HOLES_MAX, SPAN_MAX};

use crate::text::head_and_body;

/// What is read is what would have been written for this frontier; every map that the engine can
/// have fits and is read back.
pub(crate) fn commit_map(input: &[u8]) {
    let (lines, body) = head_and_body(input);
    let frontier = lines.first().and_then(|line| line.parse().ok());
    let frontier = frontier
        .filter(|frontier: &i64| *frontier >= 0)
        .unwrap_or(0);
    let metadata = lines.get(1).map_or("", String::as_str);
    if let Ok(map) = CommitMap::decode(frontier, metadata) {
        assert!(map.holes.len() <= HOLES_MAX, "{} holes", map.holes.len());
        assert!(map.holes.is_sorted(), "{:?}", map.holes);
        assert!(map.holes.first().is_none_or(|first| *first == frontier));
        assert!(map.holes.last().is_none_or(|last| *last < map.position));
    }
    made(frontier.min(i64::MAX / 2), body);
}

/// A map with the gaps that the bytes say, two for each.
fn made(frontier: i64, gaps: &[u8]) {
    let mut holes = vec![frontier];
    for gap in gaps.chunks_exact(2).take(HOLES_MAX - 1) {
        let gap = 1 + i64::from(u16::from_be_bytes([gap[0], gap[1]]));
        let next = holes.last().expect("the frontier") + gap;
        if next - frontier >= SPAN_MAX - 1 {
            break;
        }
        holes.push(next);
    }
    let position = holes.last().expect("the frontier") + 1;
    let map = CommitMap { position, holes };
    let metadata = map.encode(frontier);
    assert!(metadata.len() <= METADATA_BYTES_MAX, "{}", metadata.len());
    assert_eq!(CommitMap::decode(frontier, &metadata).as_ref(), Ok(&map));
    let other = CommitMap::decode(frontier + 1, &metadata);
    assert!(other.is_err(), "taken for another frontier");
}
