//! What filters decide, what they are refused for, and that nothing anybody writes gets past the
//! bounds.

use std::time::{Duration, Instant};

use bytes::Bytes;
use postrider_domain::{Event, Timestamp};
use proptest::prelude::*;

use super::*;

fn event(data: impl Into<Bytes>) -> Event {
    Event {
        id: "evt_1".into(),
        source: "/payments".into(),
        event_type: "payment.captured".into(),
        tenant: "acme".parse().unwrap(),
        time: Some("2026-01-01T00:00:00Z".into()),
        ordering_key: None,
        content_type: Some("application/json".into()),
        traceparent: None,
        extensions: vec![
            ("subject".into(), "pay_7".into()),
            ("shop".into(), "7".into()),
        ],
        data: data.into(),
        accepted_at: Timestamp::default(),
    }
}

const PAYMENT: &str = r#"{
    "amount": 1200, "fee": 12.5, "total": 18446744073709551615, "text": "1200", "zero": 0,
    "currency": "EUR", "live": true, "refund": null,
    "customer": {"country": "DE", "tags": ["vip", "new"]},
    "items": [{"sku": "A-1", "qty": 2}, {"sku": "B-2", "qty": 1}],
    "empty": [], "twice": 1, "twice": 2, "größe": "ü"
}"#;

fn decide(source: &str, event: &Event) -> Decision {
    let filter = Filter::compile(source).unwrap_or_else(|error| panic!("{source}: {error}"));
    filter.decide(event, &mut Seen::default())
}

fn refused(source: &str) -> String {
    match Filter::compile(source) {
        Ok(_) => panic!("{source} is a filter"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_matches() {
    let payment = event(PAYMENT);
    for source in [
        "data.amount > 1000",
        "data.amount == 1200.0 && data.fee < 13",
        "data.total > data.amount",
        "data.total == 18446744073709551615u",
        "data.amount + 1 == 1201 && data.amount % 7 == 3 && -data.amount < 0",
        "data.currency in ['EUR', 'USD']",
        "!(data.currency in ['GBP'])",
        "data.live",
        "data.refund == null",
        "has(data.customer) && !has(data.customer.vat)",
        "'country' in data.customer",
        "'vip' in data.customer.tags",
        "data.customer.tags[0] == 'vip'",
        "data['currency'] == 'EUR'",
        "data.items.exists(i, i.sku.startsWith('B') && i.qty == 1)",
        "data.items.all(i, i.qty > 0)",
        "data.items.exists_one(i, i.sku == 'A-1')",
        "data.items.exists(i, data.customer.tags.exists(t, t == 'new' && i.qty == 2))",
        "data.customer.exists(k, k == 'country')",
        "size(data.items) == 2 && data.items.size() == 2 && size(data.currency) == 3",
        "data.empty == data.empty && data.items != data.empty && data.customer == data.customer",
        "data.empty.all(i, false)",
        "int(data.text) == 1200 && double(data.text) > 1.5 && string(data.amount) == data.text",
        "data.currency + '!' == 'EUR!' && data.currency.contains('U') && data.currency.endsWith('R')",
        "data.twice == 2",
        "data['größe'] == 'ü'",
        "data.amount > 1000 ? data.live : false",
        "type == 'payment.captured' && id == 'evt_1' && source == '/payments' && tenant == 'acme'",
        "subject == 'pay_7' && attributes.shop == '7' && time < '2026-02-01'",
        "partitionkey == null && !has(attributes.partitionkey)",
        "attributes.type == type && attributes.datacontenttype == 'application/json'",
        "data.nothing == 1 || data.live",
        "data.live || data.nothing == 1",
        "\n  data.amount > 1000 // large ones\n",
    ] {
        assert_eq!(decide(source, &payment), Decision::Matches, "{source}");
    }
}

#[test]
fn what_is_not_there_does_not_match() {
    let payment = event(PAYMENT);
    for source in [
        "data.amount > 2000",
        "data.nothing == 1",
        "data.nothing != 1",
        "!(data.nothing == 1)",
        "data.customer.vat.number == 'x'",
        "data.items[2].sku == 'C'",
        "data.refund > 1",
        "data.refund.reason == 'fraud'",
        "has(data.refund.reason)",
        "data.refund.exists(r, r == 1)",
        "data.refund.startsWith('a')",
        "data.refund",
        "partitionkey.startsWith('a')",
        "attributes.partitionkey == 'a'",
        "data.currency == 1",
        "data.items == 'A'",
        "data.live == 'true'",
    ] {
        assert_eq!(decide(source, &payment), Decision::Differs, "{source}");
    }
    assert_eq!(decide("data.amount > 1", &event("")), Decision::Differs);
    assert_eq!(decide("data == null", &event("")), Decision::Matches);
}

#[test]
fn what_does_not_fit_is_undecided_and_says_why() {
    let payment = event(PAYMENT);
    for (source, why) in [
        (
            "data.text > 1000",
            "the filter does not fit the event's data: found no matching overload \
                              for '_>_' applied to '(string, int)'",
        ),
        ("data.customer > 1", "'(map, int)'"),
        ("data.amount.startsWith('1')", "'int.(string)'"),
        ("data.amount[0] == 1", "'(int, int)'"),
        ("data.currency.sku == 'A'", "'(string, string)'"),
        ("data.items.sku == 'A'", "'(list, string)'"),
        ("data.items['a'] == 'A'", "'(list, string)'"),
        (
            "data.amount.exists(x, true)",
            "expected iterable, found int",
        ),
        ("1 in data.customer", "'(int, map)'"),
        ("data.currency && true", "'(string, bool)'"),
        ("!data.amount", "'(int)'"),
        (
            "data.amount + data.text == 1",
            "add of values that are not two numbers or texts",
        ),
        (
            "data.refund + 1 == 1",
            "add of values that are not two numbers or texts",
        ),
        ("data.amount / data.zero == 1", "a division by zero"),
        ("data.amount % data.zero == 1", "a division by zero"),
        (
            "data.amount * 9223372036854775807 > 1",
            "a number that is out of range",
        ),
        (
            "int(data.currency) == 1",
            "a conversion of a value that cannot be converted",
        ),
        (
            "data.amount",
            "the filter comes to int, not to true or false",
        ),
        ("data", "the filter comes to map, not to true or false"),
    ] {
        let Decision::Undecided(undecided) = decide(source, &payment) else {
            panic!("{source}: {:?}", decide(source, &payment));
        };
        let message = undecided.to_string();
        assert!(message.contains(why), "{source}: {message}");
        assert!(
            !message.contains("EUR") && !message.contains("1200"),
            "{message}"
        );
    }
}

#[test]
fn data_that_cannot_be_read_is_undecided_only_where_it_is_looked_at() {
    let large = format!("\"{}\"", "a".repeat(DATA_BYTES_MAX));
    let deep = format!("{}1{}", "[".repeat(500), "]".repeat(500));
    for (data, why) in [
        ("no JSON".to_owned(), "not JSON (byte 2 of line 1)"),
        ("{} {}".to_owned(), "not JSON (byte 4 of line 1)"),
        ("{\"a\":\n1,}".to_owned(), "not JSON (byte 3 of line 2)"),
        (deep, "not JSON"),
        (
            large,
            "the event has 262146 bytes of it, at most 262144 are read",
        ),
    ] {
        let event = event(data);
        let Decision::Undecided(undecided) = decide("data.a == 1", &event) else {
            panic!("{why}");
        };
        assert!(undecided.to_string().contains(why), "{undecided}");
        assert_eq!(
            decide("type == 'payment.captured'", &event),
            Decision::Matches
        );
    }
}

#[test]
fn a_filter_that_takes_too_long_is_undecided_whatever_it_would_come_to() {
    let numbers = event(format!("[{}]", vec!["1"; 20_000].join(",")));
    for source in [
        "data.all(x, data.all(y, x == y))",
        "data.exists(x, x in data && x == 2)",
        "data.all(x, x == 1) || true",
        "true || data.all(x, x == 1)",
    ] {
        let decision = decide(source, &numbers);
        if source.starts_with("true") {
            assert_eq!(
                decision,
                Decision::Matches,
                "what is not evaluated costs nothing"
            );
        } else {
            assert_eq!(
                decision,
                Decision::Undecided(Undecided::TooCostly),
                "{source}"
            );
        }
    }
}

#[test]
fn one_filter_does_not_use_up_the_steps_of_the_next() {
    let event = event(format!("[{}]", vec!["1"; 2_000].join(",")));
    let mut seen = Seen::default();
    let long = Filter::compile("data.all(x, x == 1)").unwrap();
    let endless = Filter::compile("data.all(x, data.all(y, x == y))").unwrap();
    for _ in 0..3 {
        assert_eq!(long.decide(&event, &mut seen), Decision::Matches);
        let undecided = Decision::Undecided(Undecided::TooCostly);
        assert_eq!(endless.decide(&event, &mut seen), undecided);
    }
}

#[test]
fn what_is_refused_and_what_to_do() {
    let brackets = format!("{}true", "(1 > 0) && ".repeat(65));
    let nested = format!("{}true{}", "(".repeat(20), ")".repeat(20));
    let conditions = format!("{}data.a", "data.a ? data.b : ".repeat(20));
    let unary = format!("{}data.a", "-".repeat(390));
    let sums = format!("data.a{} == 1", " + data.a".repeat(60));
    let list = format!("data.a in [{}]", vec!["1"; 405].join(","));
    for (source, why) in [
        ("", "is empty; leave it out"),
        ("  \n", "is empty; leave it out"),
        (&"a".repeat(2_049), "at most 2048 bytes, found 2049"),
        ("data.a == 'a\u{0}'", "has the control character '\\0'"),
        (
            &list,
            "at most 400 dots, commas, operators and brackets, found",
        ),
        (&brackets, "at most 64 pairs of brackets, found 65"),
        (
            &nested,
            "at most 16 brackets or conditions inside each other",
        ),
        (
            &conditions,
            "at most 16 brackets or conditions inside each other",
        ),
        (&sums, "is too large: at most 500 operators"),
        ("data.amount >", "line 1, column 14: is not CEL"),
        ("data.amount = 1", "line 1, column 13: is not CEL"),
        ("data.amount\n  => 1", "line 2, column 3: is not CEL"),
        (
            "amount > 1000",
            "line 1, column 1: there is no \"amount\"; there are data, attributes,",
        ),
        (
            "data.a == 1 &&\n data.currency == EUR",
            "line 2, column 19: there is no \"EUR\"",
        ),
        (
            "data.a.matches('(a+)+')",
            "there are no regular expressions in filters",
        ),
        (
            "data.items.map(i, i.qty) == data.b",
            "map and filter are not available",
        ),
        (
            "data.items.filter(i, i.qty > 1).size() > 1",
            "map and filter are not available",
        ),
        (
            "[1, 2].exists(x, x == data.a)",
            "a list may only stand behind in",
        ),
        ("data.a == [1]", "a list may only stand behind in"),
        ("{'a': 1} == data", "maps cannot be written"),
        ("Foo{a: 1} == data", "maps cannot be written"),
        ("data.a == b'a'", "data has no bytes values"),
        (
            "timestamp(time) > timestamp('2026-01-01T00:00:00Z')",
            "timestamp with 1 arguments",
        ),
        (
            "data.a.format() == 'a'",
            "format with 0 arguments is not available",
        ),
        (
            "optional.of(data.a) == data.a",
            "of with 1 arguments is not available",
        ),
        (
            "data.items.exists(data, data.qty == 1)",
            "\"data\" has a meaning",
        ),
        (
            "data.items.exists(i, true) && i.qty == 1",
            "there is no \"i\"",
        ),
        ("data.items.exists('i', true)", "is not CEL"),
        ("has(data)", "is not CEL"),
        ("data.?a == 1", "is not CEL"),
        ("1000", "comes to a number or text"),
        ("'true'", "comes to a number or text"),
        ("data.a + 1", "comes to a number or text"),
        ("size(data.a)", "comes to a number or text"),
        ("data.live ? 1 : 2", "comes to a number or text"),
        ("type", "comes to a number or text"),
    ] {
        let message = refused(source);
        assert!(message.contains(why), "{source}: {message}");
        assert!(!message.contains('\n') && message.len() < 300, "{message}");
    }
    // An even number of signs is none at all.
    assert!(Filter::compile(&format!("{unary} == 1")).is_ok());
}

/// What every thread of Rust has, the router's among them, and not optimised.
#[test]
fn the_deepest_filters_fit_a_stack_of_2_mib() {
    let deepest = |filter: &dyn Fn(usize) -> String| {
        let deep = (1..400).map(filter);
        deep.take_while(|source| Filter::compile(source).is_ok())
            .last()
    };
    let loops = |n: usize| {
        let opened: String = (0..n).map(|n| format!("data.a.all(x{n}, ")).collect();
        format!("{opened}data.b{}", ")".repeat(n))
    };
    let nots = |n: usize| format!("{}data.b{}", "!(".repeat(n), ")".repeat(n));
    let sums = |n: usize| format!("data.n{} > 0", " + data.n".repeat(n));
    let members = |n: usize| format!("data{}", ".m".repeat(n));
    let conditions = |n: usize| format!("{}data.b", "data.b ? data.b : ".repeat(n));
    let filters: [&dyn Fn(usize) -> String; 5] = [&loops, &nots, &sums, &members, &conditions];
    for filter in filters {
        let source = deepest(filter).unwrap();
        let run = move || {
            let event = event(r#"{"a": [1], "b": true, "n": 1, "m": null}"#);
            let decision = decide(&source, &event);
            assert!(
                !matches!(decision, Decision::Undecided(_)),
                "{source}: {decision:?}"
            );
        };
        let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(run);
        thread.unwrap().join().unwrap();
    }
}

#[test]
fn a_filter_shows_nothing_of_itself() {
    let filter = Filter::compile("data.iban == 'DE02120300000000202051'").unwrap();
    assert_eq!(format!("{filter:?}"), "Filter { nodes: 4, .. }");
    let mut seen = Seen::default();
    assert_eq!(filter.decide(&event(PAYMENT), &mut seen), Decision::Differs);
    assert_eq!(format!("{seen:?}"), "Seen { .. }");
}

/// Pieces that filters and attacks on them are made of.
fn any_source() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "data",
        ".a",
        ".b",
        "[0]",
        "['a']",
        " == ",
        " > ",
        " + ",
        " && ",
        " || ",
        " in ",
        "!",
        "-",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "1",
        "2u",
        "1.5",
        "'a'",
        "\"a\"",
        "'''",
        "r'",
        "\\",
        "null",
        "true",
        " ? ",
        " : ",
        ",",
        ".exists(x, ",
        ".all(x, ",
        "x",
        "has(",
        "size(",
        "int(",
        "string(",
        ".contains(",
        "type",
        "attributes",
        "id",
        "//",
        "\n",
        "é",
        "`",
        "@",
        "$",
        "e9",
        "9223372036854775808",
        "-9223372036854775808",
        "0x",
        "b'",
        "'\\u",
        ".?",
        "{'a': ",
        "%",
        "/",
    ]);
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

/// Filters that compile more often than not.
fn any_filter() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "data",
        "data.a",
        "data.b",
        "data.l",
        "data.l[0]",
        "data.t",
        "x",
        "1",
        "'a'",
        "1.5",
        "null",
        "true",
        "9223372036854775807",
        "2u",
        "id",
        "attributes",
        "data.n",
        "partitionkey",
        "-1",
    ]);
    leaf.prop_map(str::to_owned)
        .prop_recursive(6, 40, 3, |inner| {
            let operator = prop::sample::select(vec![
                "==", "!=", "<", ">=", "+", "-", "*", "/", "%", "&&", "||", "in",
            ]);
            let function = prop::sample::select(vec!["size", "int", "uint", "double", "string"]);
            let member = prop::sample::select(vec!["startsWith", "contains", "endsWith"]);
            let round = prop::sample::select(vec!["all", "exists", "exists_one"]);
            prop_oneof![
                (inner.clone(), operator, inner.clone())
                    .prop_map(|(a, o, b)| format!("({a} {o} {b})")),
                (function, inner.clone()).prop_map(|(f, a)| format!("{f}({a})")),
                (inner.clone(), member, inner.clone())
                    .prop_map(|(a, m, b)| format!("({a}).{m}({b})")),
                (inner.clone(), round, inner.clone())
                    .prop_map(|(a, r, b)| format!("({a}).{r}(x, {b})")),
                (inner.clone(), inner.clone(), inner.clone())
                    .prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
                (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a})[{b}]")),
                inner.clone().prop_map(|a| format!("(!({a}))")),
                inner.clone().prop_map(|a| format!("({a}).a")),
                (inner.clone(), inner).prop_map(|(a, b)| format!("({a} in [{b}, 1])")),
            ]
        })
}

fn any_json() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "null",
        "true",
        "1",
        "-9223372036854775808",
        "18446744073709551615",
        "1e400",
        "0.1",
        "-0.0",
        "\"a\"",
        "\"\"",
        "\"\\u0000\"",
        "99999999999999999999999",
        "\"9223372036854775808\"",
        "\"é\"",
    ]);
    leaf.prop_map(str::to_owned)
        .prop_recursive(4, 60, 6, |inner| {
            let name = prop::sample::select(vec!["a", "b", "l", "t", "n", "\\u00e9"]);
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6)
                    .prop_map(|v| format!("[{}]", v.join(","))),
                prop::collection::vec((name, inner), 0..6).prop_map(|members| {
                    let member = |(name, value): &(&str, String)| format!("\"{name}\":{value}");
                    format!(
                        "{{{}}}",
                        members.iter().map(member).collect::<Vec<_>>().join(",")
                    )
                }),
            ]
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_text_is_too_much_for_compiling(source in any_source()) {
        drop(Filter::compile(&source));
    }

    #[test]
    fn no_bytes_are_too_much_for_compiling(source in "\\PC{0,200}") {
        drop(Filter::compile(&source));
    }

    /// Twice the same, and never a failure of the evaluator.
    #[test]
    fn the_same_filter_on_the_same_event_decides_alike(
        source in any_filter(), data in any_json(),
    ) {
        if let Ok(filter) = Filter::compile(&source) {
            let event = event(data);
            let mut seen = Seen::default();
            let first = filter.decide(&event, &mut seen);
            prop_assert_ne!(&first, &Decision::Undecided(Undecided::Broken), "{}", source);
            prop_assert_eq!(&first, &filter.decide(&event, &mut seen));
            let again = Filter::compile(&source).unwrap();
            prop_assert_eq!(&first, &again.decide(&event, &mut Seen::default()));
        }
    }

    #[test]
    fn no_data_is_too_much_for_a_filter(data in prop::collection::vec(any::<u8>(), 0..300)) {
        let event = event(data);
        let decision = decide("data.a == 1 || data.exists(x, x == data)", &event);
        prop_assert_ne!(decision, Decision::Undecided(Undecided::Broken));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// The bound is a hundred times what it takes when optimised: this runs beside other tests,
    /// not optimised. Without steps such filters run for hours.
    #[test]
    fn loops_over_long_lists_end_in_time(
        source in any_filter(), text in 0..3_000_usize, items in 0..2_000_usize,
    ) {
        let source = format!("data.l.all(x, data.l.all(x, ({source}) == data || true) || true)");
        let text = "a".repeat(text);
        let items = items.min(200_000 / (text.len() + 3));
        let list = vec![format!("\"{text}\""); items].join(",");
        let event = event(format!(r#"{{"a": "{text}", "l": [{list}], "n": null, "t": [1]}}"#));
        if let Ok(filter) = Filter::compile(&source) {
            let begun = Instant::now();
            drop(filter.decide(&event, &mut Seen::default()));
            prop_assert!(begun.elapsed() < Duration::from_secs(2), "{}", source);
        }
    }
}

/// As costly as a filter can be on [`numbers`].
const COSTLY: &str = "data.all(x, data.all(y, x == y))";

fn numbers() -> Event {
    event(format!("[{}]", vec!["1"; 5_000].join(",")))
}

#[test]
fn costly_filters_of_an_event_end_together_and_cheap_ones_are_decided_all_the_same() {
    let (costly, cheap) = (Filter::compile(COSTLY), Filter::compile("data[0] == 1"));
    let (costly, cheap) = (costly.unwrap(), cheap.unwrap());
    let event = numbers();
    let decisions = || {
        let mut seen = Seen::default();
        let mut decide = |filter: &Filter| filter.decide(&event, &mut seen);
        let costly: Vec<_> = (0..1_000).map(|_| decide(&costly)).collect();
        (costly, decide(&cheap))
    };
    let (found, cheap) = decisions();
    let alone = Decision::Undecided(Undecided::TooCostly);
    let on_their_own = found.iter().take_while(|found| **found == alone).count();
    assert!((45..=50).contains(&on_their_own), "{on_their_own}");
    let spent = Undecided::EventTooCostly { steps: SHARE };
    assert!(
        found[on_their_own + 1..]
            .iter()
            .all(|found| *found == Decision::Undecided(spent.clone()))
    );
    assert!(
        spent
            .to_string()
            .contains("2500000 steps for all, 500 were left")
    );
    assert_eq!(cheap, Decision::Matches);
    assert_eq!(decisions(), (found, cheap), "again the same");
}

#[test]
fn ten_thousand_usual_filters_are_decided() {
    let filter = Filter::compile("data.items.exists(i, i.sku == 'B')").unwrap();
    let items = vec![r#"{"sku":"A"}"#; 20].join(",");
    let event = event(format!(r#"{{"items":[{items}]}}"#));
    let mut seen = Seen::default();
    for n in 0..10_000 {
        assert_eq!(filter.decide(&event, &mut seen), Decision::Differs, "{n}");
    }
}

#[test]
fn so_much_long_text_of_different_filters_is_compiled_for_an_event() {
    let (mut seen, width) = (Seen::default(), SHORT_TEXT_MAX + 1_014);
    let long = |n: usize| -> Arc<str> { format!("data == '{n:0>width$}'").into() };
    let beyond = long(0).len() - SHORT_TEXT_MAX;
    let most = EVENT_TEXT_MAX / beyond;
    for n in 0..most {
        assert_eq!(seen.admit(&long(n)), Ok(()), "{n}");
    }
    assert_eq!(seen.admit(&long(most)), Err(Undecided::TooMuchText));
    assert_eq!(seen.admit(&long(0)), Ok(()), "the same as another's");
    let short = format!("data == '{}'", "a".repeat(SHORT_TEXT_MAX - 10));
    assert_eq!(short.len(), SHORT_TEXT_MAX);
    assert_eq!(seen.admit(&short.into()), Ok(()));
}
