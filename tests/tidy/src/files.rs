//! What every file owes its reader: Rust files say what they decide, links in documents lead
//! somewhere, nothing names the machine it was written on.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use super::root;

/// Past this many lines a file is named in the output, so that someone looks for the missing noun.
const LINES_LONG: usize = 800;

/// Folders whose content nobody here wrote, or that hold inputs of any bytes.
const NOT_OURS: [&str; 6] = [
    "target",
    "node_modules",
    "__pycache__",
    "corpus",
    "found",
    "artifacts",
];

#[test]
fn rust_files_open_with_what_they_decide() {
    let mut silent = Vec::new();
    let files = files_with(&["rs"]);
    for path in &files {
        let content = read(path);
        if !content.starts_with("//! ") {
            silent.push(shown(path));
        }
        let lines = content.lines().count();
        if lines > LINES_LONG {
            println!("{}: {lines} lines", shown(path));
        }
    }
    assert!(files.len() > 10, "found only {files:?}");
    assert!(
        silent.is_empty(),
        "no module documentation on the first line:\n{}",
        silent.join("\n")
    );
}

#[test]
fn relative_links_in_documents_lead_somewhere() {
    let mut dead = Vec::new();
    for path in files_with(&["md"]) {
        let folder = path.parent().expect("a file lies in a folder");
        for link in relative_links(&read(&path)) {
            if !folder.join(&link).exists() {
                dead.push(format!("{}: {link}", shown(&path)));
            }
        }
    }
    assert!(dead.is_empty(), "dead links:\n{}", dead.join("\n"));
}

#[test]
fn nothing_names_the_machine_it_was_written_on() {
    // in pieces, so as not to find itself
    let machine_paths = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
    ];
    let mut found = Vec::new();
    for path in files_with(&[
        "rs",
        "md",
        "toml",
        "sh",
        "py",
        "xml",
        "properties",
        "yaml",
        "",
    ]) {
        let content = read(&path);
        for (number, line) in content.lines().enumerate() {
            if machine_paths
                .iter()
                .any(|machine_path| line.contains(machine_path))
            {
                found.push(format!("{}:{}: {line}", shown(&path), number + 1));
            }
        }
    }
    assert!(
        found.is_empty(),
        "paths of one machine:\n{}",
        found.join("\n")
    );
}

#[test]
fn only_documents_of_the_repository_are_cited() {
    // in pieces, so as not to find itself
    let elsewhere = [concat!("CONT", "RACT §"), concat!("DES", "IGN §")];
    let mut found = Vec::new();
    for path in files_with(&["rs", "md"]) {
        for (number, line) in read(&path).lines().enumerate() {
            if elsewhere.iter().any(|document| line.contains(document)) {
                found.push(format!("{}:{}: {line}", shown(&path), number + 1));
            }
        }
    }
    assert!(
        found.is_empty(),
        "cited, but not in the repository (cite docs/, an ADR, an RFC or a KIP instead):\n{}",
        found.join("\n")
    );
}

/// The targets of `[text](target)` outside code, without their fragments; addresses elsewhere
/// and links within the document are left out.
fn relative_links(document: &str) -> Vec<String> {
    let mut links = Vec::new();
    let mut in_code = false;
    for line in document.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        // every second piece lies between backticks
        for prose in line.split('`').step_by(2) {
            let targets = prose
                .split("](")
                .skip(1)
                .filter_map(|rest| rest.split(')').next());
            let targets = targets.map(|target| target.split('#').next().unwrap_or(target));
            let relative = targets.filter(|target| !target.is_empty() && !target.contains(':'));
            links.extend(relative.map(str::to_owned));
        }
    }
    links
}

/// All files of ours with one of these extensions, sorted; `""` stands for none.
pub(super) fn files_with(extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().to_owned(), root().join(".ci")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the repository") {
            let path = entry.expect("an entry of the folder").path();
            let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
            let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
            if name.starts_with('.') || NOT_OURS.contains(&name) {
                continue;
            } else if path.is_dir() {
                folders.push(path);
            } else if extensions.contains(&extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

pub(super) fn read(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    String::from_utf8_lossy(&bytes).into_owned()
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root())
        .unwrap_or(path)
        .display()
        .to_string()
}

#[test]
fn links_are_found_in_prose_and_not_in_code() {
    let document = "[a](x.md#part) `[b](y.md)` [c](https://host/) [d](#here)\n\
                    ```\n[e](z.md)\n```\n[f](../g/) [h](i.md)";
    assert_eq!(relative_links(document), ["x.md", "../g/", "i.md"]);
}
