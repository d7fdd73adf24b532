//! The file of the keys that seal secrets.
//!
//! Decides who else may read it: a warning says when everybody can. Leaves its form to `signing`.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use postrider_signing::{KEY_FILE_BYTES_MAX, KeyRing};
use tracing::warn;
use zeroize::Zeroizing;

use crate::exit::Failure;

/// Reads it. No error repeats anything of a key.
pub(crate) fn read(path: &Path) -> Result<KeyRing, Failure> {
    let name = path.display();
    let failure = |error: std::io::Error| {
        Failure::usage(format!("cannot read secrets.key_file {name}: {error}"))
    };
    let mut file = File::open(path).map_err(failure)?;
    let mode = file.metadata().map_err(failure)?.permissions().mode();
    if is_open_to_all(mode) {
        warn!(
            file = %name,
            mode = format!("{:o}", mode & 0o777),
            "every user of this machine can get at the key file: chmod o= it"
        );
    }
    // Room from the beginning: nothing of a key stays behind in memory that was grown.
    let mut bytes = Zeroizing::new(vec![0; KEY_FILE_BYTES_MAX + 1]);
    let mut length = 0;
    loop {
        match file.read(&mut bytes[length..]).map_err(failure)? {
            0 => break,
            more => length += more,
        }
    }
    KeyRing::parse(&bytes[..length])
        .map_err(|error| Failure::usage(format!("secrets.key_file {name}: {error}")))
}

const fn is_open_to_all(mode: u32) -> bool {
    mode & 0o006 != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Code;

    fn refusal(bytes: &[u8]) -> String {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys");
        std::fs::write(&path, bytes).expect("the folder is ours");
        match read(&path) {
            Err(Failure::Ended(Code::Usage, reason)) => reason,
            _ => panic!("accepted, or failed otherwise"),
        }
    }

    #[test]
    fn a_wrong_file_is_named_with_the_line_and_no_key() {
        let reason = refusal(b"# keys\nk1 = c2VjcmV0\n");
        assert!(reason.contains("/keys: line 2: what follows ="), "{reason}");
        assert!(!reason.contains("c2Vj"), "{reason}");
        let long = refusal(&vec![b'#'; 2 * KEY_FILE_BYTES_MAX]);
        assert!(long.contains("not text of at most"), "{long}");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        match read(Path::new("/nowhere/keys")) {
            Err(Failure::Ended(Code::Usage, reason)) => {
                assert!(
                    reason.contains("secrets.key_file /nowhere/keys"),
                    "{reason}"
                );
            }
            _ => panic!("accepted, or failed otherwise"),
        }
    }

    #[test]
    fn what_others_may_do_with_it_counts() {
        assert!(is_open_to_all(0o100_644));
        assert!(is_open_to_all(0o100_602));
        assert!(!is_open_to_all(0o100_640));
        assert!(!is_open_to_all(0o100_600));
    }
}
