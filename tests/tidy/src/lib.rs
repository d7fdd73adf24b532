//! Rules about the repository itself, run as tests: which crate may know which (`crates`) and
//! what every file owes its reader (`files`), that kill points stay out of releases (`points`).

#[cfg(test)]
mod crates;
#[cfg(test)]
mod files;
#[cfg(test)]
mod points;

/// The workspace's folder.
#[cfg(test)]
fn root() -> &'static std::path::Path {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors()
        .nth(2)
        .expect("tests/tidy lies two levels down")
}
