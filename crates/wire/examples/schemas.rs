//! Writes `docs/reference/schemas`.

use std::path::Path;

fn main() -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/schemas");
    std::fs::create_dir_all(&folder)?;
    for (name, schema) in postrider_wire::schemas::all() {
        std::fs::write(folder.join(name), schema)?;
    }
    Ok(())
}
