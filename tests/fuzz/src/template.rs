//! A template of any text, and data of any bytes; the other formats of the same data.
//!
//! Input: lines, the first a media type, then the template; the data.

use postrider_domain::{
    Delivery, DeliveryId, Endpoint, Format, Scheme, Signing, SigningSecret, Template,
};
use postrider_payload::{BODY_BYTES_MAX, HEADERS_BYTES_MAX, Renderer};
use postrider_signing::parse_key;
use serde_json::value::RawValue;

use crate::sample;
use crate::text::head_and_body;

/// Of base64 that turns up nowhere by chance.
const SECRET: &str = "whsec_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";

/// What is made fits its bound, is made alike again, is JSON where it says so, and has no secret
/// in it.
pub(crate) fn template(input: &[u8]) {
    let (lines, data) = head_and_body(input);
    let (content_type, source) = lines.split_first().expect("split yields a line");
    let template = Template {
        source: source.join("\n").into(),
        content_type: content_type.as_str().into(),
    };
    for format in [
        Format::Template(template),
        Format::Standard,
        Format::CloudEvents,
        Format::CloudEventsBinary,
        Format::Form,
    ] {
        made(format, data);
    }
}

fn made(format: Format, data: &[u8]) {
    let mut endpoint = endpoint();
    endpoint.format = format;
    let delivery = Delivery {
        id: DeliveryId::from_bytes([7; 16]),
        endpoint: endpoint.id.clone(),
        event: sample::event(data),
        attempts: 0,
        due: None,
        test: false,
    };
    let renderer = Renderer::default();
    let rendered = renderer.render(&endpoint, &delivery);
    assert_eq!(
        renderer.render(&endpoint, &delivery),
        rendered,
        "made otherwise"
    );
    let Ok(rendered) = rendered else {
        return;
    };
    let bound = match endpoint.format {
        Format::Template(_) | Format::Form => BODY_BYTES_MAX,
        _ => 6 * data.len() + (64 << 10),
    };
    assert!(
        rendered.body.len() <= bound,
        "{} bytes",
        rendered.body.len()
    );
    let headers = rendered.headers.iter();
    let bytes: usize = headers.map(|(name, value)| name.len() + value.len()).sum();
    assert!(bytes <= HEADERS_BYTES_MAX, "{bytes} bytes of headers");
    if matches!(endpoint.format, Format::Standard | Format::CloudEvents) {
        let parsed = serde_json::from_slice::<&RawValue>(&rendered.body);
        assert!(parsed.is_ok(), "no JSON");
    }
    let body = String::from_utf8_lossy(&rendered.body);
    assert!(!body.contains(&SECRET[6..]), "a secret was made");
}

fn endpoint() -> Endpoint {
    let (id, tenant) = ("ep_fuzz".parse(), "acme".parse());
    let url = "https://acme.example/";
    let mut endpoint = Endpoint::new(id.expect("an id"), tenant.expect("a tenant"), url);
    endpoint.signing = Signing {
        scheme: Scheme::Standard,
        secrets: vec![SigningSecret {
            id: "s1".into(),
            key: parse_key(&Scheme::Standard, SECRET).expect("a key"),
            not_after: None,
        }],
    };
    endpoint
}
