//! Which crate may know which: the arrows of ARCHITECTURE.md, and what pure crates never reach.
//!
//! `cargo deny` keeps the boundaries that are about foreign crates alone (deny.toml).

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use super::root;

/// No clock, no socket, no randomness of their own: decisions only.
const PURE: [&str; 10] = [
    "domain", "guard", "catalog", "filter", "engine", "signing", "payload", "wire", "config",
    "schema",
];

/// What pure crates never reach, however indirectly.
const IO: [&str; 4] = ["tokio", "rdkafka", "hyper", "socket2"];

const TEST_SUPPORT: &str = "test-support";

/// The crates of the workspace that a crate may depend on.
///
/// Shells translate between the outside and the domain, and do not know each other; the roles
/// compose them; the binary composes the roles.
fn allowed(name: &str) -> Option<Vec<&'static str>> {
    let shell_free = |others: &[&'static str]| Some([&PURE, others].concat());
    match name {
        "domain" | "schema" | "points" => Some(vec![]),
        "guard" | "catalog" | "filter" | "signing" | "payload" => Some(vec!["domain"]),
        "engine" => Some(vec!["domain", "catalog"]),
        "config" => Some(vec!["domain", "guard"]),
        // signing knows how secrets are written, and endpoint records hold secrets; filter and
        // payload know what an expression and a template may say, and a bad one must not get in
        "wire" => Some(vec!["domain", "guard", "signing", "filter", "payload"]),
        "telemetry" => Some(vec!["domain"]),
        // points are steps of shells and roles, never of what decides
        "kafka" => Some(vec!["domain", "points"]),
        "egress" => Some(vec!["domain", "guard", "points"]),
        "registry" => Some(vec!["domain", "schema"]),
        "router" => shell_free(&["kafka", "registry", "telemetry", "points"]),
        "dispatcher" => shell_free(&["kafka", "egress", "telemetry", "points"]),
        "postrider" => shell_free(&[
            "kafka",
            "egress",
            "telemetry",
            "points",
            "router",
            "dispatcher",
        ]),
        _ => None,
    }
}

#[test]
fn crates_know_only_whom_they_may() {
    let mut wrong = Vec::new();
    for (name, arrows) in members_under("crates") {
        let Some(allowed) = allowed(&name) else {
            wrong.push(format!("{name}: add it to the table in {}", file!()));
            continue;
        };
        let allowed: BTreeSet<&str> = allowed.into_iter().collect();
        for (to, kind) in arrows {
            // tests may lean on whatever is pure, never on another shell
            let in_tests = kind == "dev" && (to == TEST_SUPPORT || PURE.contains(&to.as_str()));
            if !allowed.contains(to.as_str()) && !in_tests {
                wrong.push(format!("{name} must not depend on {to} ({kind})"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_engine_is_free_of_io_and_serialisation() {
    let reached = reached_by("postrider-engine");
    for banned in IO.iter().chain(&["serde", "serde_core"]) {
        assert!(
            !reached.contains(*banned),
            "cargo tree -p postrider-engine -i {banned}"
        );
    }
}

#[test]
fn pure_crates_reach_no_io() {
    for name in PURE {
        let reached = reached_by(&format!("postrider-{name}"));
        for banned in IO {
            assert!(
                !reached.contains(banned),
                "cargo tree -p postrider-{name} -i {banned}"
            );
        }
    }
}

/// Each crate in the folder, by its name without the prefix, with the workspace's crates it
/// depends on and how (`normal`, `dev`, `build`).
fn members_under(folder: &str) -> BTreeMap<String, Vec<(String, String)>> {
    let metadata = cargo(&["metadata", "--no-deps", "--format-version", "1"]);
    let metadata: Value = serde_json::from_str(&metadata).expect("cargo prints JSON");
    let folder = root().join(folder);
    let packages = array(&metadata, "packages").iter();
    let inside = packages.filter(|package| {
        std::path::Path::new(text(package, "manifest_path")).starts_with(&folder)
    });
    let members: BTreeMap<_, _> = inside
        .map(|package| (short(text(package, "name")), arrows(package)))
        .collect();
    assert!(members.contains_key("engine"), "found only {members:?}");
    members
}

fn arrows(package: &Value) -> Vec<(String, String)> {
    let dependencies = array(package, "dependencies").iter();
    let own = dependencies.filter(|dependency| dependency["path"].is_string());
    own.map(|dependency| {
        let kind = dependency["kind"].as_str().unwrap_or("normal");
        (short(text(dependency, "name")), kind.to_owned())
    })
    .collect()
}

/// The names of all crates that are built for this one, tests aside.
fn reached_by(package: &str) -> BTreeSet<String> {
    let tree = cargo(&[
        "tree",
        "-p",
        package,
        "-e",
        "normal,build",
        "--prefix",
        "none",
    ]);
    let names = tree.lines().filter_map(|line| line.split(' ').next());
    let names: BTreeSet<String> = names.map(str::to_owned).collect();
    assert!(names.contains(package), "cargo tree printed {tree:?}");
    names
}

pub(super) fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .args(["--locked", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {arguments:?}: {complaint}");
    String::from_utf8(output.stdout).expect("cargo prints UTF-8")
}

fn short(name: &str) -> String {
    name.strip_prefix("postrider-").unwrap_or(name).to_owned()
}

fn array<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key]
        .as_array()
        .unwrap_or_else(|| panic!("no list {key:?}"))
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key]
        .as_str()
        .unwrap_or_else(|| panic!("no text {key:?}"))
}
