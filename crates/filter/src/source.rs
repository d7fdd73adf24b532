//! The text of an expression, before and while it is parsed.
//!
//! Decides how much text is given to the parser at all: it takes time with the marks in a text and
//! stack with the brackets that are open, 16 KiB each. Both are counted without regard to what is
//! quoted, as an upper bound that no trick with quotes gets past; of stack, the parser's own bound
//! comes first. Leaves what an expression may use to `allowed`.

use std::fmt;

use cel::common::ast::SourceInfo;
use cel::parser::{Expression, Parser};

/// Longest expression, in bytes.
pub const SOURCE_BYTES_MAX: usize = 2_048;

/// Most characters that are neither letters, digits, spaces nor quotes.
const MARKS_MAX: usize = 400;

/// Most brackets that open.
const BRACKETS_MAX: usize = 64;

/// Most expressions inside each other, as the parser counts.
const RECURSION_MAX: u16 = 16;

/// Most of the parser's own words in a message, in bytes.
const PARSER_WORDS_MAX: usize = 160;

/// Why an expression is no filter, where, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct InvalidFilter {
    /// Line and column, from 1; `None` = the expression as a whole.
    pub place: Option<(usize, usize)>,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for InvalidFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            None => f.write_str(&self.message),
            Some((line, column)) => write!(f, "line {line}, column {column}: {}", self.message),
        }
    }
}

impl InvalidFilter {
    pub(crate) fn whole(message: impl Into<String>) -> Self {
        Self {
            place: None,
            message: message.into(),
        }
    }

    pub(crate) fn unreadable() -> Self {
        Self::whole("is no expression that can be read; write it more simply")
    }
}

/// Whether a text is given to the parser.
pub(crate) fn check(source: &str) -> Result<(), InvalidFilter> {
    let refuse = |message: String| Err(InvalidFilter::whole(message));
    if source.trim().is_empty() {
        return refuse("is empty; leave it out to get every event of the types".to_owned());
    }
    if source.len() > SOURCE_BYTES_MAX {
        let found = source.len();
        return refuse(format!("at most {SOURCE_BYTES_MAX} bytes, found {found}"));
    }
    if let Some(character) = source
        .chars()
        .find(|c| c.is_control() && !"\t\n\r".contains(*c))
    {
        return refuse(format!("has the control character {character:?}"));
    }
    let is_mark = |b: &u8| b.is_ascii_punctuation() && !matches!(b, b'\'' | b'"' | b'_');
    let marks = source.bytes().filter(is_mark).count();
    if marks > MARKS_MAX {
        return refuse(format!(
            "at most {MARKS_MAX} dots, commas, operators and brackets, found {marks}"
        ));
    }
    let opens = |b: &u8| matches!(b, b'(' | b'[' | b'{');
    let brackets = source.bytes().filter(opens).count();
    if brackets > BRACKETS_MAX {
        return refuse(format!(
            "at most {BRACKETS_MAX} pairs of brackets, found {brackets}"
        ));
    }
    Ok(())
}

/// The expression, and where its nodes are in the text.
pub(crate) fn parse(source: &str) -> Result<(Expression, SourceInfo), InvalidFilter> {
    let parser = Parser::new()
        .max_recursion_depth(RECURSION_MAX)
        .error_recovery_limit(4);
    parser.parse_with_source_info(source).map_err(|errors| {
        let Some(first) = errors.errors.first() else {
            return InvalidFilter::unreadable();
        };
        let words = first.msg.split('\n').next().unwrap_or_default();
        if words.contains("ecursion limit") {
            return InvalidFilter::whole(format!(
                "at most {RECURSION_MAX} brackets or conditions inside each other"
            ));
        }
        let end = words.floor_char_boundary(PARSER_WORDS_MAX);
        let number = |n: isize| usize::try_from(n).ok().filter(|n| *n > 0);
        InvalidFilter {
            place: number(first.pos.0).zip(number(first.pos.1)),
            message: format!("is not CEL: {}", &words[..end]),
        }
    })
}

/// Line and column of a byte of the text, from 1.
pub(crate) fn place(source: &str, offset: usize) -> (usize, usize) {
    let before = &source[..source.floor_char_boundary(offset)];
    let line_start = before.rfind('\n').map_or(0, |n| n + 1);
    let line = before.matches('\n').count() + 1;
    (line, before[line_start..].chars().count() + 1)
}
