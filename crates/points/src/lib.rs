//! Steps of a delivery's path that have a name, so that a test build can kill itself right there,
//! and faults that a test build can be given, so that an audit can be seen to find them.
//!
//! Decides which there are ([`POINTS`], [`FAULTS`]), and that nothing of them is in any other build
//! (ADR 0039): without the feature `armed` both macros come to nothing, names included. Leaves
//! where a step is to the shells and roles, what is armed to the program's command line, and what
//! has to hold after a kill to the tests.
//!
//! ```
//! # fn acked() {}
//! postrider_points::reach!("dispatcher.retry.acked");
//! acked();
//! if postrider_points::has_fault!("dispatcher.retry.dropped") {
//!     // what a broken Postrider would do
//! }
//! ```
#![warn(missing_docs)]

#[cfg(feature = "armed")]
mod armed;
mod list;

#[cfg(feature = "armed")]
pub use armed::{arm, break_it, is_broken, reached};
pub use list::{FAULTS, Named, POINTS};

/// The place of a name in a list.
///
/// # Panics
/// When it is not there: at build time, as the macros ask in a constant.
#[must_use]
pub const fn place(list: &[Named], name: &str) -> usize {
    let mut place = 0;
    while place < list.len() {
        if same(list[place].name.as_bytes(), name.as_bytes()) {
            return place;
        }
        place += 1;
    }
    panic!("no such name in crates/points/src/list.rs")
}

const fn same(one: &[u8], other: &[u8]) -> bool {
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}

/// The step of this name is reached: a test build that was told so is killed here. With `if` it is
/// one only when that holds.
#[cfg(feature = "armed")]
#[macro_export]
macro_rules! reach {
    ($name:literal) => {{
        const PLACE: usize = $crate::place($crate::POINTS, $name);
        $crate::reached(PLACE);
    }};
    ($name:literal, if $given:expr) => {
        if $given {
            $crate::reach!($name);
        }
    };
}

/// The step of this name is reached: a test build that was told so is killed here. With `if` it is
/// one only when that holds.
#[cfg(not(feature = "armed"))]
#[macro_export]
macro_rules! reach {
    ($name:literal) => {};
    ($name:literal, if $given:expr) => {
        if false {
            let _: bool = $given;
        }
    };
}

/// Whether this build was given the fault of this name.
#[cfg(feature = "armed")]
#[macro_export]
macro_rules! has_fault {
    ($name:literal) => {{
        const PLACE: usize = $crate::place($crate::FAULTS, $name);
        $crate::is_broken(PLACE)
    }};
}

/// Whether this build was given the fault of this name.
#[cfg(not(feature = "armed"))]
#[macro_export]
macro_rules! has_fault {
    ($name:literal) => {
        false
    };
}

#[cfg(test)]
mod tests {
    use super::{FAULTS, POINTS, place, same};

    #[test]
    fn every_name_is_found_where_it_is() {
        for list in [POINTS, FAULTS] {
            for (at, named) in list.iter().enumerate() {
                assert_eq!(place(list, named.name), at, "{} is there twice", named.name);
            }
        }
    }

    #[test]
    fn names_that_begin_alike_are_not_the_same() {
        assert!(same(b"ab", b"ab"));
        assert!(!same(b"ab", b"abc") && !same(b"abc", b"ab") && !same(b"ab", b"ac"));
    }
}
