//! Facts about templates: what they make, and what is found wrong in them.

use postrider_domain::{Scheme, Secret, Signing, SigningKey, SigningSecret};

use super::*;

const DATA: &[u8] = br#"{"id":"pay_1","amount":1050,"currency":"EUR","paid":10.50,
    "exact":12345678901234567890.10,"note":"<a&b \"c\">","items":[{"sku":"x","n":2},{"sku":"y","n":1}],
    "at":"2023-01-19T00:13:51Z","empty":null}"#;

pub(super) fn template(content_type: &str, source: &str) -> Template {
    Template {
        source: source.into(),
        content_type: content_type.into(),
    }
}

pub(super) fn signing() -> Signing {
    let secret = |id: &str, key| SigningSecret {
        id: id.into(),
        key,
        not_after: None,
    };
    Signing {
        scheme: Scheme::Standard,
        secrets: vec![
            secret("s1", SigningKey::Shared(Secret::new(*b"Jefe"))),
            secret("private", SigningKey::Ed25519(Secret::new([7; 64]))),
        ],
    }
}

fn run(content_type: &str, source: &str, data: &'static [u8]) -> Result<String, String> {
    let mut endpoint = endpoint(Format::Template(template(content_type, source)));
    endpoint.signing = signing();
    let delivery = delivery(event(JSON, data));
    let renderer = Renderer::default();
    let rendered = renderer.render(&endpoint, &delivery);
    let rendered = rendered.map_err(|unrenderable| unrenderable.to_string())?;
    Ok(String::from_utf8(rendered.body.to_vec()).expect("templates make text"))
}

#[track_caller]
fn assert_plain(source: &str, expected: &str) {
    assert_eq!(
        run("text/plain", source, DATA).as_deref(),
        Ok(expected),
        "{source}"
    );
    let checked = check(&template("text/plain", source), &signing());
    assert_eq!(checked, Ok(()), "{source}");
}

#[test]
fn a_template_sees_event_data_and_the_delivery_s_id() {
    assert_plain(
        "{{ event.type }} {{ event.currencyname }} {{ event.partitionkey }} {{ data.items[1].sku }}",
        "payment.captured Euro € 😀 pay_1 y",
    );
    assert_plain("{{ webhook_id }}", "dlv_abababababababababababababababab");
    assert_plain("{{ event.subject | default('none') }}", "none");
    assert_plain(
        "{% if event.subject is defined %}a{% else %}b{% endif %}",
        "b",
    );
    assert_plain(
        "{% for i in data.items %}{{ loop.index }}{{ i.sku }};{% endfor %}",
        "1x;2y;",
    );
    assert_plain(
        "{% for k, v in data.items[0] | items %}{{ k }}={{ v }} {% endfor %}",
        "sku=x n=2 ",
    );
    assert_plain(
        "{% if data.paid > 10 and 'EUR' == data.currency %}x{% endif %}",
        "x",
    );
}

#[test]
fn amounts_dates_and_hashes_have_filters() {
    assert_plain("{{ data.amount | money(data.currency) }}", "10.50");
    assert_plain(
        "{{ data.amount | money('JPY') }} {{ data.amount | money(3) }}",
        "1050 1.050",
    );
    assert_plain(
        "{{ data.paid | minor('EUR') }} {{ '10.5' | minor('KWD') }}",
        "1050 10500",
    );
    assert_plain(
        "{{ data.at | unix }} {{ event.time | unix }}",
        "1674087231 1674087231",
    );
    assert_plain(
        "{{ 1674087231 | date('%d.%m.%Y %H:%M') }}",
        "19.01.2023 00:13",
    );
    assert_plain(
        "{{ data.id | base64 }} {{ data.id | hex }}",
        "cGF5XzE= 7061795f31",
    );
    assert_plain(
        "{{ 'abc' | sha256 | hex }}",
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    );
    // RFC 4231, test case 2.
    assert_plain(
        "{{ 'what do ya want for nothing?' | hmac_sha256('s1') | hex }}",
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
    );
    assert_plain(
        "{{ data.items | length }} {{ ' a ' | trim | upper }}",
        "2 A",
    );
    assert_plain(
        "{{ 'a-b-c' | replace('-', '+') }} {{ ['a', 1] | join(', ') }}",
        "a+b+c a, 1",
    );
    assert_plain(
        "{{ data.exact }} {{ data.exact | tojson }}",
        "12345678901234567890.10 12345678901234567890.10",
    );
    for source in [
        "{{ data.paid | money('EUR') }}",
        "{{ data.amount | money('XXX') }}",
        "{{ '10.505' | minor('EUR') }}",
        "{{ data.id | unix }}",
        "{{ data.at | date('%!') }}",
        "{{ data.exact | times(2) }}",
        "{{ 'x' | sha256 }}",
        "{{ data.items }}",
        "{{ 1e308 | times(10) }}",
    ] {
        let refused = run("text/plain", source, DATA).unwrap_err();
        assert!(
            refused.starts_with("the template fails in line 1: "),
            "{source}: {refused}"
        );
    }
}

#[test]
fn a_value_is_never_more_than_a_value() {
    let note = "{{ data.note }}";
    let json = format!(
        "{{\"note\":{note},\"n\":{{{{ data.empty }}}},\"all\":{{{{ data.items | tojson }}}}}}"
    );
    assert_eq!(
        run("application/json", &json, DATA).unwrap(),
        r#"{"note":"<a&b \"c\">","n":null,"all":[{"sku":"x","n":2},{"sku":"y","n":1}]}"#
    );
    let inside =
        r#"{"text": {{ "pre-" ~ data.note }}, "json": {{ data.items | tojson | string }}}"#;
    let made: Value =
        serde_json::from_str(&run("application/json", inside, DATA).unwrap()).unwrap();
    assert_eq!(made["text"], "pre-<a&b \"c\">");
    assert_eq!(made["json"], r#"[{"sku":"x","n":2},{"sku":"y","n":1}]"#);
    let form = format!("note={note}&x=1");
    let form = run("application/x-www-form-urlencoded", &form, DATA).unwrap();
    assert_eq!(form, "note=%3Ca%26b+%22c%22%3E&x=1");
    let xml = run("application/xml", "<n>{{ data.note }}</n>", DATA).unwrap();
    assert_eq!(xml, "<n>&lt;a&amp;b &#34;c&#34;&gt;</n>");
    assert_eq!(run("text/csv", note, DATA).unwrap(), "<a&b \"c\">");
}

#[test]
fn what_is_not_json_is_not_sent_as_json() {
    let refused = run("application/json", r#"{"id": "{{ data.id }}"}"#, DATA).unwrap_err();
    assert!(
        refused.contains("values have their quotes already"),
        "{refused}"
    );
    assert!(!refused.contains("pay_1"), "{refused}");
}

#[test]
fn a_value_that_is_missing_is_no_empty_text() {
    let refused = run("text/plain", "a\n{{ data.missing }}", DATA).unwrap_err();
    assert!(
        refused.contains("line 2") && refused.contains("is defined"),
        "{refused}"
    );
    assert!(
        run("text/plain", "{{ data.id }}", b"not JSON")
            .unwrap_err()
            .contains("not JSON")
    );
    assert_eq!(run("text/plain", "{{ data }}.", b"").unwrap(), ".");
}

#[test]
fn no_message_repeats_a_value() {
    let data: &[u8] = br#"{"s":"4111111111111111","n":[4111111111111111]}"#;
    for source in [
        "{{ data.s | int(base=2) }}",
        "{{ data.s | money('EUR') | round }}",
        "{{ data.s - 1 }}",
        "{{ data.s | unix }}",
        "{{ data.s | date(data.s) }}",
        "{{ data.s | hmac_sha256(data.s) }}",
        "{{ data.n.x.y }}",
        "{{ data.s | money(data.s) }}",
        "{% for a, b in data.s %}{% endfor %}",
        "{{ data.s() }}",
        "{{ data.s | round(data.s) }}",
    ] {
        let message = run("text/plain", source, data).unwrap_err();
        assert!(!message.contains("4111"), "{source}: {message}");
    }
}

#[test]
fn mistakes_are_found_before_there_is_an_event() {
    for (source, expected) in [
        ("a\n{{ data.id", "line 2: unexpected end of input"),
        ("{% include 'x' %}", "line 1: unknown statement include"),
        (
            "{% macro a() %}{% endmacro %}",
            "line 1: unknown statement macro",
        ),
        (
            "\n{{ payload.id }}",
            "line 2: there is no \"payload\": a template sees",
        ),
        ("{{ now() }}", "line 1: there is no function \"now\""),
        ("{{ range(9) }}", "line 1: there is no function \"range\""),
        (
            "{{ data.id.upper() }}",
            "line 1: there is no method \"upper\"",
        ),
        ("{{ data | tojsn }}", "line 1: there is no filter \"tojsn\""),
        ("{{ data is nul }}", "line 1: there is no test \"nul\""),
        (
            "{{ 'a' | hmac_sha256('s9') }}",
            "line 1: hmac_sha256 names the secret 's9'",
        ),
        (
            "{{ 'a' | hmac_sha256('private') }}",
            "line 1: hmac_sha256 names the secret",
        ),
        (
            "{{ 'a' | hmac_sha256(data.id) }}",
            "line 1: hmac_sha256 needs the id",
        ),
        (
            "{{ 'a' | hmac_sha256 }}",
            "line 1: hmac_sha256 needs the id",
        ),
    ] {
        let mistakes = check(&template("text/plain", source), &signing()).unwrap_err();
        assert_eq!(mistakes.len(), 1, "{source}: {mistakes:?}");
        assert!(mistakes[0].starts_with(expected), "{source}: {mistakes:?}");
    }
    let long = "a".repeat(Template::SOURCE_BYTES_MAX + 1);
    assert!(check(&template("text/plain", &long), &signing()).is_err());
    let many = "{{ a }}\n".repeat(100);
    assert_eq!(
        check(&template("text/plain", &many), &signing())
            .unwrap_err()
            .len(),
        20
    );
}

#[test]
fn a_template_cannot_print_a_secret() {
    let key = "Jefe";
    for source in [
        "{{ hmac_sha256 }}",
        "{{ secrets }}",
        "{{ signing }}",
        "{{ event.secrets }}",
        "{{ 'a' | hmac_sha256('s1') }}",
        "{{ self }}",
        "{{ debug() }}",
        "{{ 'x' | hmac_sha256('private') | hex }}",
        "{{ event | tojson }}{{ data | tojson }}{{ webhook_id }}",
    ] {
        match run("text/plain", source, DATA) {
            Ok(text) | Err(text) => assert!(!text.contains(key), "{source}: {text}"),
        }
    }
}

#[test]
fn a_list_of_a_thousand_lines_fits() {
    let fields: Vec<String> = (0..10).map(|n| format!("\"f{n}\":{n}")).collect();
    let line = format!("{{{}}}", fields.join(","));
    let data = format!("[{}{line}]", format!("{line},").repeat(999));
    let print: String = (0..10).map(|n| format!("{{{{ line.f{n} }}}};")).collect();
    let source = format!("{{% for line in data %}}{print}{{% endfor %}}");
    let made = run("text/csv", &source, data.into_bytes().leak()).unwrap();
    assert_eq!(made, "0;1;2;3;4;5;6;7;8;9;".repeat(1_000));
}

proptest! {
    #[test]
    fn any_text_is_a_template_or_none(source in "(\\{\\{|\\{%|%\\}|\\}\\}|[a-z|.()'\\[\\] ~*+0-9]| data| for x in | if |tojson){0,30}") {
        let checked = check(&template("text/plain", &source), &signing());
        let made = run("text/plain", &source, DATA);
        if let Err(mistakes) = checked {
            prop_assert!(!mistakes.is_empty());
        } else if let Err(message) = made {
            prop_assert!(message.starts_with("the template fails"), "{}", message);
        }
    }
}
