//! Requests signed in other schemes than the default verify from what their receiver got.

use postrider_e2e::{Installation, text};
use postrider_test_support::{Broker, Receiver, Request};

use crate::{SOON, event, wait_until_ready};

/// Of 32 bytes: enough for every scheme here.
const SECRET: &str = "whsec_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";
const SCHEMES: [&str; 3] = ["stripe", "rfc9421", "jws"];

#[test]
fn what_a_receiver_got_verifies_in_its_scheme() {
    let receiver = Receiver::start();
    let installation = Installation::new(Broker::shared(), 2, &["orders"]);
    let path = |scheme: &str| format!("/{scheme}?x=1");
    let documents = SCHEMES.map(|scheme| {
        format!(
            "---\nid: ep_{scheme}\ntenant: acme\nurl: {}\n\
             signing: {{ scheme: {scheme}, secrets: [{{ id: s1, value: {SECRET} }}] }}\n",
            receiver.url(&path(scheme))
        )
    });
    installation.endpoints(&documents.concat());
    let mut worker = installation.worker(&["router", "dispatcher"]);
    wait_until_ready(&mut worker);
    let body = event("e-1", "acme");
    installation.publish("orders", std::slice::from_ref(&body));

    for scheme in SCHEMES {
        let arrived = receiver.wait_for(&path(scheme), SOON, |requests| !requests.is_empty());
        let [request] = &arrived[..] else {
            panic!("{arrived:?}");
        };
        assert_eq!(request.body, body);
        assert_eq!(request.header("webhook-signature"), None, "{scheme}");
        let url = receiver.url(&path(scheme));
        let verify = |scheme: &str, body: &[u8], url: &str| {
            let headers = installation.file("headers.txt", lines_of(request).as_bytes());
            let headers = format!("@{}", headers.display());
            let body = installation.file("body", body);
            let signed = [
                "--secret",
                SECRET,
                "--header",
                &headers,
                "--body",
                text(&body),
            ];
            let which = ["verify", "--scheme", scheme, "--url", url];
            installation.postrider(&[&which[..], &signed].concat())
        };
        verify(scheme, body.as_bytes(), &url).expect_done();
        let changed = body.replace("captured", "refunded");
        assert_eq!(
            verify(scheme, changed.as_bytes(), &url).code,
            Some(1),
            "{scheme}"
        );
        if scheme == "rfc9421" {
            let elsewhere = url.replace("x=1", "x=2");
            assert_eq!(verify(scheme, body.as_bytes(), &elsewhere).code, Some(1));
        }
    }
}

/// As a receiver would save them.
fn lines_of(request: &Request) -> String {
    let headers = request.headers.iter();
    let lines = headers.map(|(name, value)| {
        let value = value.to_str().expect("ours are text");
        format!("{name}: {value}\n")
    });
    lines.collect()
}
