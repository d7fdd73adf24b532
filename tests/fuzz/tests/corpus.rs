//! The kept inputs, whole, cut and changed in small ways, run with every other test: what a fuzzer
//! once found stays found, and a target that panics at the first byte is noticed without one.

use std::fs;
use std::path::{Path, PathBuf};

use postrider_fuzz::{TARGETS, run};

/// Changes of each kept input.
const CHANGES: usize = 200;

#[test]
fn kept_inputs_and_small_changes_of_them_hold() {
    for (name, _) in TARGETS {
        let kept = kept(name);
        assert!(!kept.is_empty(), "corpus/{name} is empty");
        let mut rng = fastrand::Rng::with_seed(5);
        for (path, input) in &kept {
            println!("{}", path.display());
            run(name, input);
            for _ in 0..CHANGES {
                run(name, &changed(input, &kept, &mut rng));
            }
        }
    }
}

fn kept(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("an entry of the folder").path())
        .collect();
    paths.sort();
    let read = |path: PathBuf| (path.clone(), fs::read(path).expect("a kept input"));
    paths.into_iter().map(read).collect()
}

fn changed(input: &[u8], kept: &[(PathBuf, Vec<u8>)], rng: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..rng.usize(1..4) {
        let at = rng.usize(..=bytes.len());
        match rng.u8(..4) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, rng.u8(..)),
            2 if at < bytes.len() => bytes[at] ^= 1 << rng.u8(..8),
            _ => {
                let (_, other) = &kept[rng.usize(..kept.len())];
                let from = rng.usize(..=other.len());
                let to = other.len().min(from + rng.usize(..16));
                bytes.splice(at..at, other[from..to].iter().copied());
            }
        }
    }
    bytes
}
