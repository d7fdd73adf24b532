//! Kill points and faults (ADR 0039): each name of the list is somewhere in the code, nothing else
//! turns them on than the program that is for them, and no other reads what is armed.

use std::collections::BTreeSet;
use std::fs;

use super::crates::cargo;
use super::files::{files_with, read};
use super::root;

const LIST: &str = "crates/points/src/list.rs";

#[test]
fn each_point_is_in_the_code_and_each_in_the_code_is_listed() {
    let list = fs::read_to_string(root().join(LIST)).expect("the list of points");
    let listed: BTreeSet<String> = quoted_after(&list, "named(").collect();
    let mut placed = BTreeSet::new();
    for path in files_with(&["rs"]) {
        let inside = path.strip_prefix(root()).expect("a file of ours");
        if inside.starts_with("crates") && !inside.starts_with("crates/points") {
            let content = read(&path);
            placed.extend(quoted_after(&content, "reach!("));
            placed.extend(quoted_after(&content, "has_fault!("));
        }
    }
    assert!(listed.len() > 40, "found only {listed:?}");
    assert_eq!(placed, listed);
}

/// One program asks for the feature, by one of its own that is off.
#[test]
fn nothing_turns_points_on_by_default() {
    let tree = |more: &[&str]| {
        let arguments = [
            "tree",
            "--workspace",
            "-e",
            "features",
            "-i",
            "postrider-points",
        ];
        cargo(&[&arguments[..], more].concat())
    };
    let armed = "postrider-points feature \"armed\"";
    assert!(!tree(&[]).contains(armed));
    assert!(tree(&["--features", "postrider/points"]).contains(armed));
}

/// The texts that follow a word, wherever lines are broken.
fn quoted_after<'a>(content: &'a str, word: &'a str) -> impl Iterator<Item = String> + 'a {
    let behind = content.split(word).skip(1);
    behind.filter_map(|rest| {
        let text = rest.trim_start().strip_prefix('"')?;
        Some(text.split('"').next()?.to_owned())
    })
}
