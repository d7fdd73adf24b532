//! Facts about `filter` and `success` in files and records.

use postrider_domain::Success;

use super::*;

pub(super) fn any_filter() -> impl Strategy<Value = String> {
    // with an underscore no name is a word of CEL, as `in` is
    ("[a-z]{1,8}_", any::<i64>()).prop_map(|(name, number)| format!("data.{name} > {number}"))
}

pub(super) fn any_success() -> impl Strategy<Value = Success> {
    let range = (200..=499_u16, 0..=299_u16).prop_map(|(first, more)| {
        let last = (first + more).min(499);
        first..=last
    });
    let statuses = proptest::collection::vec(range, 1..=20);
    (statuses, proptest::option::of(".{1,60}")).prop_map(|(statuses, text)| Success {
        statuses,
        body_contains: text.map(String::into_boxed_str),
    })
}

fn one(extra: &str) -> Endpoint {
    let yaml = format!("id: a\nurl: https://a.example/\nsigning: {{scheme: none}}\n{extra}\n");
    parse(&yaml).unwrap().remove(0)
}

#[test]
fn a_filter_is_read_and_a_bad_one_refused_with_its_place() {
    let filter = "data.amount > 1000 && type == 'payment.captured'";
    assert_eq!(
        one(&format!("filter: \"{filter}\"")).filter.as_deref(),
        Some(filter)
    );
    assert_eq!(one("").filter, None);
    for (extra, start) in [
        (
            "filter: data.amount >",
            "filter: line 1, column 14: is not CEL",
        ),
        (
            "filter: amount > 1",
            "filter: line 1, column 1: there is no \"amount\"",
        ),
        ("filter: data.amount", ""),
        ("filter: ''", "filter: is empty; leave it out"),
        (
            "filter: true",
            "filter: expected a string, found true or false",
        ),
        ("filter: [a]", "filter: expected a string, found a list"),
    ] {
        if start.is_empty() {
            // It may come to true or false: nobody knows before there is an event.
            assert!(one(extra).filter.is_some());
        } else {
            assert_one(extra, start);
        }
    }
    let long = format!("filter: \"data.a == '{}'\"", "a".repeat(2_048));
    assert_one(&long, "filter: at most 2048 bytes, found");
}

#[test]
fn success_is_statuses_and_a_text_of_the_body() {
    let success = |fields: &str| one(&format!("success: {fields}")).success.unwrap();
    let both =
        success("{status: [2xx, 302, '409', 404-404, 300-301], body_contains: '[accepted]'}");
    assert_eq!(
        both.statuses,
        [200..=299, 302..=302, 409..=409, 404..=404, 300..=301]
    );
    assert_eq!(both.body_contains.as_deref(), Some("[accepted]"));
    let text = success("{body_contains: ok}");
    assert_eq!(text.statuses, [200..=299], "any 2xx, as without a rule");
    assert_eq!(success("{status: [200]}").body_contains, None);
    assert_eq!(success("{}").statuses, [200..=299]);
    assert_eq!(one("").success, None);
}

#[test]
fn success_has_bounds() {
    for status in [
        "199",
        "500",
        "5xx",
        "1xx",
        "0",
        "-1",
        "'2x'",
        "'20'",
        "'+20'",
        "2000",
        "204-200",
        "200-500",
        "'200-'",
        "'2xx-3xx'",
        "xx",
        "OK",
        "'200 '",
        "65736",
    ] {
        let expected = "success.status[0]: expected a status";
        assert_one(&format!("success: {{status: [{status}]}}"), expected);
    }
    for (fields, start) in [
        (
            "{status: []}",
            "success.status: expected at least one status",
        ),
        (
            "{status: 200}",
            "success.status: expected a list, found a number",
        ),
        (
            "{status: [true]}",
            "success.status[0]: expected a status such as 200, 200-204 or 2xx",
        ),
        (
            "{body_contains: ''}",
            "success.body_contains: expected 1 to 256 bytes, found 0",
        ),
        (
            "{body_contains: 5}",
            "success.body_contains: expected a string",
        ),
        ("{code: [200]}", "success.code: there is no such field"),
        (
            "[200]",
            "success: expected status and body_contains, found a list",
        ),
        (
            "200",
            "success: expected status and body_contains, found a number",
        ),
    ] {
        assert_one(&format!("success: {fields}"), start);
    }
    let many = format!("success: {{status: [{}]}}", vec!["200"; 21].join(", "));
    assert_one(&many, "success.status: at most 20 statuses, found 21");
    let long = format!("success: {{body_contains: {}}}", "é".repeat(129));
    assert_one(
        &long,
        "success.body_contains: expected 1 to 256 bytes, found 258",
    );
}

#[test]
fn a_record_with_a_bad_filter_or_rule_is_not_used() {
    for (field, value) in [
        ("filter", r#""data.matches('(a+)+')""#),
        ("filter", "5"),
        ("success", r#"{"status":["5xx"]}"#),
        ("success", "[]"),
    ] {
        let json = format!(
            r#"{{"id":"a","url":"https://a.example/","signing":{{"scheme":"none"}},
                "{field}":{value}}}"#
        );
        let refused = from_record(b"a", json.as_bytes()).unwrap_err().to_string();
        assert!(refused.starts_with(field), "{refused}");
    }
}
