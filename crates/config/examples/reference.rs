//! Writes `docs/reference/configuration.md` anew.

use std::fs;
use std::io;

fn main() -> io::Result<()> {
    let page = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../docs/reference/configuration.md"
    );
    fs::write(page, postrider_config::reference_markdown())
}
