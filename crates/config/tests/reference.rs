//! The reference page and the example file say what the code does.

use std::collections::BTreeSet;

use postrider_config::{File, Sources, load, reference, reference_markdown};

const EXAMPLE: &str = include_str!("../../../docs/reference/postrider.toml");

fn example(text: String) -> Sources {
    Sources {
        file: Some(File::new("postrider.toml", text)),
        ..Sources::default()
    }
}

#[test]
fn the_committed_page_is_the_generated_one() {
    let page = include_str!("../../../docs/reference/configuration.md");
    assert!(
        page == reference_markdown(),
        "write it anew: cargo run -p postrider-config --example reference"
    );
}

#[test]
fn the_example_file_sets_every_default() {
    let config = load(example(EXAMPLE.to_owned())).unwrap();
    for row in reference() {
        let Some(default) = row.default.filter(|_| !row.path.contains("[]")) else {
            continue;
        };
        let shown = config.show().iter().find(|shown| shown.path == row.path);
        let shown = shown.expect("every key is shown");
        assert_eq!(shown.value, default, "{}", row.path);
        assert_eq!(shown.source, "postrider.toml", "{}", row.path);
    }
}

#[test]
fn its_examples_hold_every_other_key() {
    // what cannot stand together
    let mut used = used_with_examples(&["retry = \"standard\"", "#token = "]);
    used.append(&mut used_with_examples(&[
        "retry = \"standard\"",
        "#user = ",
        "#password = ",
    ]));
    for row in reference() {
        let present = match row.path.strip_suffix('*') {
            Some(section) => used.iter().any(|path| path.starts_with(section)),
            None => used.contains(row.path),
        };
        assert!(present, "{}", row.path);
    }
}

/// The keys that the file sets with its examples, but for lines that begin like this.
fn used_with_examples(without: &[&str]) -> BTreeSet<String> {
    let is_example = |line: &&str| line.starts_with('#') && !line.starts_with("# ") && *line != "#";
    let uncommented: String = EXAMPLE
        .lines()
        .filter(|line| !without.iter().any(|left_out| line.starts_with(left_out)))
        .map(|line| {
            Some(line)
                .filter(is_example)
                .map_or(line, |line| &line[1..])
        })
        .map(|line| format!("{line}\n"))
        .collect();
    let config = load(example(uncommented)).expect("the examples go together");
    let rows = config.show().iter();
    rows.filter(|row| row.source == "postrider.toml")
        .map(|row| row.path.replace("[0]", "[]").replace("[1]", "[]"))
        .collect()
}

#[test]
fn every_key_stands_under_its_section() {
    let page = reference_markdown();
    let mut section = "";
    let mut keys = 0;
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            section = heading.trim_matches(['[', ']']);
        }
        let Some(key) = line.strip_prefix("### `") else {
            continue;
        };
        let first = key.split_once('.').map_or(key, |(first, _)| first);
        assert_eq!(first.trim_end_matches("[]"), section, "{line}");
        keys += 1;
    }
    assert_eq!(keys, reference().len());
}
