//! Facts about formats as a whole; `templates` and `hostile` have those about templates.

mod hostile;
mod templates;

use postrider_domain::{DeliveryId, Event, Template, Tenant, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

pub(super) fn event(content_type: Option<&str>, data: &'static [u8]) -> Event {
    Event {
        id: "evt_1".into(),
        source: "/payments".into(),
        event_type: "payment.captured".into(),
        tenant: "acme".parse().unwrap(),
        time: Some("2023-01-19T00:13:51Z".into()),
        ordering_key: Some("pay_1".into()),
        content_type: content_type.map(Into::into),
        traceparent: None,
        extensions: vec![("currencyname".into(), "Euro € 😀".into())],
        data: Bytes::from_static(data),
        accepted_at: Timestamp::from_millis(1_674_087_231_500),
    }
}

pub(super) fn delivery(event: Event) -> Delivery {
    Delivery {
        id: DeliveryId::from_bytes([0xab; 16]),
        endpoint: "ep_1".parse().unwrap(),
        event,
        attempts: 0,
        due: None,
        test: false,
    }
}

pub(super) fn endpoint(format: Format) -> Endpoint {
    let mut endpoint = Endpoint::new(
        "ep_1".parse().unwrap(),
        Tenant::default(),
        "https://a.example/",
    );
    endpoint.format = format;
    endpoint
}

/// Content type, headers, body.
type Made = (String, Vec<(String, String)>, Bytes);

fn made(format: Format, event: Event) -> Result<Made, Unrenderable> {
    let (endpoint, delivery) = (endpoint(format), delivery(event));
    let renderer = Renderer::default();
    let rendered = renderer.render(&endpoint, &delivery)?;
    Ok((
        rendered.content_type.into_owned(),
        rendered.headers,
        rendered.body,
    ))
}

fn text(format: Format, event: Event) -> String {
    let (_, _, body) = made(format, event).unwrap();
    String::from_utf8(body.to_vec()).unwrap()
}

const JSON: Option<&str> = Some("application/json");

#[test]
fn raw_and_binary_bodies_are_the_data_itself() {
    for format in [Format::Raw, Format::CloudEventsBinary] {
        let event = event(JSON, b"{ \"a\" : 1 }");
        let (content_type, _, body) = made(format, event.clone()).unwrap();
        assert_eq!(body.as_ptr(), event.data.as_ptr(), "not a copy");
        assert_eq!((&*content_type, body.len()), ("application/json", 11));
    }
    let (content_type, headers, _) = made(Format::Raw, event(None, b"x")).unwrap();
    assert_eq!(content_type, "application/octet-stream");
    assert_eq!(headers, []);
}

#[test]
fn the_standard_envelope_has_the_data_byte_for_byte() {
    let body = |content_type, data| text(Format::Standard, event(content_type, data));
    let start = r#"{"type":"payment.captured","timestamp":"2023-01-19T00:13:51Z","#;
    for (content_type, data, member) in [
        (
            JSON,
            &b" {\"a\": 10.50,\"a\":\"\\u00e9\"}\n"[..],
            r#""data":{"a": 10.50,"a":"\u00e9"}}"#,
        ),
        (None, b"[1,2]", r#""data":[1,2]}"#),
        (None, b"a", r#""data_base64":"YQ=="}"#),
        (Some("text/plain"), b"a\"b\n", r#""data":"a\"b\n"}"#),
        (
            Some("text/plain; charset=latin1"),
            b"caf\xe9",
            r#""data_base64":"Y2Fm6Q=="}"#,
        ),
        (
            Some("text/plain"),
            b"caf\xe9",
            r#""data_base64":"Y2Fm6Q=="}"#,
        ),
        (JSON, b"{", r#""data_base64":"ew=="}"#),
        (
            Some("application/octet-stream"),
            b"{}",
            r#""data_base64":"e30="}"#,
        ),
        (JSON, b"", r#""data":null}"#),
    ] {
        assert_eq!(
            body(content_type, data),
            format!("{start}{member}"),
            "{content_type:?}"
        );
    }
    let mut timeless = event(JSON, b"1");
    for time in [None, Some("yesterday".into())] {
        timeless.time = time;
        let body = text(Format::Standard, timeless.clone());
        assert!(
            body.contains(r#""timestamp":"2023-01-19T00:13:51.500Z""#),
            "{body}"
        );
    }
}

#[test]
fn a_structured_cloudevent_has_all_attributes() {
    let (content_type, _, body) = made(Format::CloudEvents, event(JSON, b"{\"a\":1}")).unwrap();
    assert_eq!(content_type, "application/cloudevents+json; charset=utf-8");
    let body: Value = serde_json::from_slice(&body).unwrap();
    let expected = json!({
        "specversion": "1.0",
        "id": "evt_1",
        "source": "/payments",
        "type": "payment.captured",
        "time": "2023-01-19T00:13:51Z",
        "tenant": "acme",
        "partitionkey": "pay_1",
        "currencyname": "Euro € 😀",
        "datacontenttype": "application/json",
        "data": {"a": 1},
    });
    assert_eq!(body, expected);
    let body = |event| text(Format::CloudEvents, event);
    let mut bare = event(None, b"");
    (bare.time, bare.ordering_key) = (None, None);
    bare.tenant = Tenant::default();
    bare.extensions = vec![
        ("id".into(), "another".into()),
        ("subject".into(), "s".into()),
    ];
    assert_eq!(
        body(bare),
        r#"{"specversion":"1.0","id":"evt_1","source":"/payments","type":"payment.captured","subject":"s"}"#
    );
    assert!(body(event(Some("image/png"), b"\x89")).ends_with(r#""data_base64":"iQ=="}"#));
    assert!(body(event(Some("text/csv"), b"a,b")).ends_with(r#""data":"a,b"}"#));
}

#[test]
fn a_binary_cloudevent_has_its_attributes_as_headers() {
    let (content_type, headers, _) = made(Format::CloudEventsBinary, event(JSON, b"{}")).unwrap();
    assert_eq!(content_type, "application/json");
    let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (&**n, &**v)).collect();
    let expected = [
        ("ce-specversion", "1.0"),
        ("ce-id", "evt_1"),
        ("ce-source", "/payments"),
        ("ce-type", "payment.captured"),
        ("ce-time", "2023-01-19T00:13:51Z"),
        ("ce-tenant", "acme"),
        ("ce-partitionkey", "pay_1"),
        ("ce-currencyname", "Euro%20%E2%82%AC%20%F0%9F%98%80"),
    ];
    assert_eq!(headers, expected);
}

#[test]
fn attributes_past_what_servers_take_as_headers_are_not_sent_as_headers() {
    let mut large = event(JSON, b"{}");
    large.extensions = vec![("big".into(), "é".repeat(3_000).into())];
    let refused = made(Format::CloudEventsBinary, large.clone()).unwrap_err();
    assert!(
        refused.to_string().contains("use format cloudevents"),
        "{refused}"
    );
    assert!(made(Format::CloudEvents, large).is_ok());
}

#[test]
fn what_is_no_object_is_no_form() {
    let (content_type, _, body) = made(
        Format::Form,
        event(JSON, br#"{"id":"pay_1","amount":10.50}"#),
    )
    .unwrap();
    assert_eq!(content_type, "application/x-www-form-urlencoded");
    assert_eq!(&*body, b"id=pay_1&amount=10.50");
    let refused = made(Format::Form, event(JSON, b"[1]")).unwrap_err();
    assert!(refused.to_string().contains("not an object"), "{refused}");
}

fn any_event() -> impl Strategy<Value = Event> {
    let types = [
        "application/json",
        "text/plain",
        "image/png",
        "a/b; charset=x",
        "",
    ];
    (
        (".{0,20}", ".{1,20}", ".{1,20}"),
        proptest::option::of("[0-9TZ:+-]{0,20}"),
        proptest::option::of(proptest::sample::select(types.to_vec())),
        proptest::collection::vec(("[a-z0-9]{1,12}", ".{0,20}"), 0..5),
        prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..64),
            "[\\[\\]{}\",:0-9a-z\\\\ ]{0,40}".prop_map(String::into_bytes),
        ],
    )
        .prop_map(
            |((id, source, event_type), time, content_type, extensions, data)| Event {
                id: id.into(),
                source: source.into(),
                event_type: event_type.into(),
                time: time.map(Into::into),
                extensions: extensions
                    .into_iter()
                    .map(|(n, v)| (n.into(), v.into()))
                    .collect(),
                data: data.into(),
                ..event(content_type, b"")
            },
        )
}

proptest! {
    #[test]
    fn any_event_has_every_format_or_a_reason(event in any_event()) {
        for format in [Format::Standard, Format::CloudEvents] {
            let (_, _, body) = made(format, event.clone()).unwrap();
            let body: Value = serde_json::from_slice(&body).unwrap();
            prop_assert_eq!(&body["type"], &*event.event_type);
        }
        let binary = made(Format::CloudEventsBinary, event.clone());
        let (_, headers, _) = binary.unwrap();
        let printable = |text: &str| text.bytes().all(|b| (b'!'..=b'~').contains(&b));
        let sendable = headers.iter().all(|(name, value)| printable(name) && printable(value));
        prop_assert!(sendable);
        let template = Template {
            source: "{{ event }}{{ data }}{{ data | tojson | string }}".into(),
            content_type: "application/json".into(),
        };
        for format in [Format::Form, Format::Template(template)] {
            let first = made(format.clone(), event.clone());
            prop_assert_eq!(first, made(format, event.clone()), "always the same");
        }
    }
}

/// The examples of `docs/reference/formats.md`, as they would be sent.
#[test]
fn the_reference_shows_what_is_sent() {
    let reference = include_str!("../../../docs/reference/formats.md");
    let blocks = |kind: &str| -> Vec<&str> {
        let starts = reference.split(kind).skip(1);
        starts
            .filter_map(|rest| rest.split("\n```").next())
            .collect()
    };
    let yaml = blocks("```yaml\n").pop().expect("the template comes last");
    let (_, source) = yaml.split_once("template: |\n").expect("a block");
    let source: Vec<&str> = source
        .lines()
        .map(|line| line.trim_start_matches("  "))
        .collect();
    let template = Template {
        source: source.join("\n").into(),
        content_type: "application/json".into(),
    };
    let formats = [
        Format::Raw,
        Format::Standard,
        Format::CloudEvents,
        Format::CloudEventsBinary,
        Format::Form,
        Format::Template(template),
    ];
    let shown = blocks("```http\n");
    assert_eq!(shown.len(), formats.len());
    for (shown, format) in shown.into_iter().zip(formats) {
        let data =
            br#"{"id":"pay_1","amount":1050,"currency":"EUR","lines":[{"sku":"x","paid":10.50}]}"#;
        assert!(reference.contains(std::str::from_utf8(data).unwrap()));
        let mut event = event(JSON, data);
        event.extensions = vec![("currencyname".into(), "Euro €".into())];
        let (content_type, headers, body) = made(format.clone(), event).unwrap();
        let mut sent = format!("content-type: {content_type}\n");
        for (name, value) in headers {
            sent.push_str(&format!("{name}: {value}\n"));
        }
        sent.push_str(&format!("\n{}", std::str::from_utf8(&body).unwrap()));
        assert_eq!(shown, sent, "{format:?}");
    }
}

#[test]
fn no_body_is_larger_than_was_thought() {
    for data in [&b""[..], b"{\"a\":1}", &[1; 2_000], &[0xff; 2_000], b"[[[["] {
        for content_type in [
            None,
            Some("application/json"),
            Some("text/plain"),
            Some("\u{1}"),
        ] {
            let mut event = event(content_type, b"");
            event.data = Bytes::copy_from_slice(data);
            event.id = "\u{1}".repeat(2_000).into();
            event.extensions = vec![("note".into(), "\"".repeat(2_000).into()); 5];
            for format in [Format::Standard, Format::CloudEvents] {
                let most = bytes_at_most(&endpoint(format.clone()), &delivery(event.clone()));
                let (_, _, body) = made(format, event.clone()).unwrap();
                assert!(Some(body.len()) <= most, "{} {most:?}", body.len());
            }
        }
    }
    for own in [Format::Raw, Format::CloudEventsBinary] {
        assert_eq!(
            bytes_at_most(&endpoint(own), &delivery(event(None, b"1"))),
            None
        );
    }
}
