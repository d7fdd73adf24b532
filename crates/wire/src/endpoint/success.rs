//! Which answers mean success: the form, and what it says.
//!
//! Decides how statuses are written, and that none of 1xx and 5xx can be named: the one is no end
//! of an exchange, the other says itself that it is none. Leaves what counts to
//! `domain::success`.

use std::ops::RangeInclusive;

use postrider_domain::Success;

use super::check::at_most;
use super::form::{StatusForm, SuccessForm};
use super::read::Mistakes;
use crate::attributes::clip;

const STATUSES: RangeInclusive<u16> = 200..=499;

/// The rule, `None` with mistakes noted.
pub(super) fn success(form: SuccessForm, mistakes: &mut Mistakes) -> Option<Success> {
    let statuses = form.status.map_or_else(
        || Some(vec![Success::STATUSES]),
        |list| statuses(&list, mistakes),
    );
    let path = "success.body_contains";
    let fits = |text: &String| (1..=Success::BODY_BYTES_MAX).contains(&text.len());
    if let Some(text) = form.body_contains.as_ref().filter(|text| !fits(text)) {
        let (max, found) = (Success::BODY_BYTES_MAX, text.len());
        mistakes.push(path, format!("expected 1 to {max} bytes, found {found}"));
    }
    Some(Success {
        statuses: statuses?,
        body_contains: form.body_contains.filter(fits).map(String::into_boxed_str),
    })
}

/// The form of a rule: what [`success`] makes the rule of again.
pub(super) fn form_of(success: &Success) -> SuccessForm {
    SuccessForm {
        status: Some(success.statuses.iter().map(written).collect()),
        body_contains: success.body_contains.as_deref().map(str::to_owned),
    }
}

fn statuses(list: &[StatusForm], mistakes: &mut Mistakes) -> Option<Vec<RangeInclusive<u16>>> {
    let (path, max) = ("success.status", Success::STATUSES_MAX);
    if list.is_empty() {
        mistakes.push(
            path,
            "expected at least one status; leave it out for any 2xx",
        );
        return None;
    }
    at_most(path, "statuses", list.len(), max, mistakes);
    let mut ranges = Vec::with_capacity(list.len().min(max));
    for (n, form) in list.iter().enumerate().take(max) {
        let (range, found) = match form {
            StatusForm::Number(number) => (one(*number), number.to_string()),
            StatusForm::Text(text) => (range(text), format!("{:?}", clip(text))),
        };
        let inside = |range: &RangeInclusive<u16>| {
            !range.is_empty() && STATUSES.contains(range.start()) && STATUSES.contains(range.end())
        };
        match range.filter(inside) {
            Some(range) => ranges.push(range),
            None => mistakes.push(
                format!("{path}[{n}]"),
                format!(
                    "expected a status from 200 to 499, such as 200, 200-204 or 2xx, found {found}"
                ),
            ),
        }
    }
    Some(ranges)
}

fn one(number: u64) -> Option<RangeInclusive<u16>> {
    let number = u16::try_from(number).ok()?;
    Some(number..=number)
}

/// `200`, `200-204` or `2xx`.
fn range(text: &str) -> Option<RangeInclusive<u16>> {
    // `parse` would take a sign.
    let number = |text: &str| {
        let digits = text.len() == 3 && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse::<u16>().ok()).flatten()
    };
    if let Some(class) = text.strip_suffix("xx") {
        let class = number(&format!("{class}00"))?;
        return Some(class..=class + 99);
    }
    match text.split_once('-') {
        Some((first, last)) => Some(number(first)?..=number(last)?),
        None => number(text).map(|number| number..=number),
    }
}

/// As one writes it.
fn written(range: &RangeInclusive<u16>) -> StatusForm {
    let (first, last) = (*range.start(), *range.end());
    if first == last {
        StatusForm::Number(first.into())
    } else if first % 100 == 0 && last == first + 99 {
        StatusForm::Text(format!("{}xx", first / 100))
    } else {
        StatusForm::Text(format!("{first}-{last}"))
    }
}
