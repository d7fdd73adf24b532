//! What a format costs, on the machine this runs on:
//! `cargo run --release -p postrider-payload --example format-cost`.
#![expect(clippy::print_stdout, reason = "it is what this program is for")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use postrider_domain::{
    Delivery, DeliveryId, Endpoint, Event, Format, Template, Tenant, Timestamp,
};
use postrider_payload::Renderer;

/// How long each is measured.
const FOR: Duration = Duration::from_millis(500);

fn main() {
    let line = r#"{"sku":"x-1","count":2,"price":1050,"note":"café"}"#;
    let template = "{\"id\": {{ webhook_id }}, \"type\": {{ event.type }}, \"lines\": [\
        {% for line in data.lines %}{\"sku\": {{ line.sku }}, \
        \"price\": {{ line.price | money('EUR') }}}{% if not loop.last %},{% endif %}{% endfor %}]}";
    let hostile = format!(
        "{{% set x = data.note ~ 'a' %}}{}{{% if x == data.note ~ 'a' %}}{{% endif %}}{}",
        "{% for a in data.lines %}".repeat(8),
        "{% endfor %}".repeat(8)
    );
    for lines in [10, 1_000, 4_000, 19_000] {
        let note = "n".repeat(lines * 10);
        let data = format!(
            "{{\"note\":\"{note}\",\"lines\":[{}{line}]}}",
            format!("{line},").repeat(lines - 1)
        );
        println!("{} bytes of JSON", data.len());
        for (name, format) in [
            ("raw", Format::Raw),
            ("standard", Format::Standard),
            ("cloudevents", Format::CloudEvents),
            ("cloudevents-binary", Format::CloudEventsBinary),
            ("form", Format::Form),
            ("template", templated(template)),
            ("template that does what it can", templated(&hostile)),
        ] {
            measure(name, format, data.clone().into());
        }
    }
    let before = resident();
    let kept: Vec<Renderer> = (0..1_000)
        .map(|_| {
            let renderer = Renderer::default();
            let result = made(
                &renderer,
                &endpoint(templated(template)),
                b"{\"lines\":[]}"[..].into(),
            );
            result.expect("it is made");
            renderer
        })
        .collect();
    let bytes = (resident() - before) / kept.len();
    println!(
        "a template of {} bytes, read: {bytes} bytes",
        template.len()
    );
    let wide = "{% if data.a is defined %}{{ data.a }}{% endif %}".repeat(1_337);
    let before = resident();
    let began = Instant::now();
    let kept: Vec<Renderer> = (0..100)
        .map(|_| {
            let renderer = Renderer::default();
            let result = made(
                &renderer,
                &endpoint(templated(&wide)),
                b"{\"a\":\"\"}"[..].into(),
            );
            result.expect_err("it is no JSON");
            renderer
        })
        .collect();
    let bytes = (resident() - before) / kept.len();
    let took = began.elapsed() / 100;
    println!(
        "a template of {} bytes, read: {bytes} bytes, {took:?}",
        wide.len()
    );
}

fn templated(source: &str) -> Format {
    Format::Template(Template {
        source: source.into(),
        content_type: "application/json".into(),
    })
}

fn endpoint(format: Format) -> Endpoint {
    let id = "ep_1".parse().expect("an id");
    let mut endpoint = Endpoint::new(id, Tenant::default(), "https://a.example/");
    endpoint.format = format;
    endpoint
}

fn made(renderer: &Renderer, endpoint: &Endpoint, data: Bytes) -> Result<usize, String> {
    let delivery = Delivery {
        id: DeliveryId::from_bytes([1; 16]),
        endpoint: endpoint.id.clone(),
        event: Event {
            id: "evt_1".into(),
            source: "/payments".into(),
            event_type: "payment.captured".into(),
            tenant: Tenant::default(),
            time: None,
            ordering_key: None,
            content_type: Some("application/json".into()),
            traceparent: None,
            extensions: Vec::new(),
            data,
            accepted_at: Timestamp::default(),
        },
        attempts: 0,
        due: None,
        test: false,
    };
    let rendered = renderer.render(endpoint, &delivery);
    rendered
        .map(|rendered| rendered.body.len())
        .map_err(|error| error.to_string())
}

fn measure(name: &str, format: Format, data: Bytes) {
    let (endpoint, renderer) = (endpoint(format), Renderer::default());
    let began = Instant::now();
    let mut count = 0_u32;
    let mut result = Ok(0);
    while began.elapsed() < FOR {
        result = made(&renderer, &endpoint, data.clone());
        count += 1;
    }
    println!("  {name}: {:?} ({result:?})", began.elapsed() / count);
}

/// Bytes of this process in memory.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: usize = pages
        .split(' ')
        .nth(1)
        .expect("a field")
        .parse()
        .expect("a number");
    pages * 4_096
}
