//! Kinds of errors, as users read of them.

use postrider_domain::ErrorKind;

#[test]
fn every_kind_of_error_is_explained() {
    let page = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../docs/reference/outcomes.md"
    );
    let page = std::fs::read_to_string(page).expect("the page");
    let explained: Vec<&str> = page
        .lines()
        .skip_while(|line| *line != "### Kinds of errors")
        .take_while(|line| !line.starts_with("### `Retry-After`"))
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    let kinds: Vec<&str> = ErrorKind::ALL.iter().map(|kind| kind.as_str()).collect();
    assert_eq!(explained, kinds, "in the order of an exchange");
}
