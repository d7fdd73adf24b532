//! What an endpoint asks of its callers, from text to value and back.

use postrider_domain::{Auth, ClientCertificate, Credentials, OAuth2, Secret, Tenant};

use super::sealed::{keys, under};
use super::*;

const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
const KEY: &str = "-----BEGIN PRIVATE KEY-----\naHVudGVyMg==\n-----END PRIVATE KEY-----\n";

fn all() -> Vec<Auth> {
    let with = |credentials| Auth {
        credentials: Some(credentials),
        ..Auth::NONE
    };
    let certificate = Some(ClientCertificate {
        chain: CERTIFICATE.repeat(2).into(),
        key: Secret::new(KEY.as_bytes()),
    });
    let ca = Some(CERTIFICATE.into());
    vec![
        with(Credentials::Basic {
            username: "müller".into(),
            password: Secret::new(*b"hunter2: yes"),
        }),
        with(Credentials::Bearer(Secret::new(*b"hunter2"))),
        Auth {
            certificate: certificate.clone(),
            ca: ca.clone(),
            ..with(Credentials::OAuth2(OAuth2 {
                token_url: "https://id.example/token?a=b".into(),
                client_id: "me".into(),
                client_secret: Secret::new(*b"hunter2"),
                scopes: vec!["hooks:write".into(), "b".into()],
                audience: Some("https://a.example/".into()),
            }))
        },
        Auth {
            certificate,
            ..Auth::NONE
        },
        Auth { ca, ..Auth::NONE },
    ]
}

fn endpoint(auth: Auth) -> Endpoint {
    let url = "https://a.example/";
    let mut endpoint = Endpoint::new("ep_1".parse().unwrap(), Tenant::default(), url);
    endpoint.auth = Some(Box::new(auth));
    endpoint
}

#[test]
fn every_kind_is_read_as_it_was_written() {
    for auth in all() {
        let endpoint = endpoint(auth);
        for keys in [KeyRing::default(), keys(&["k1"])] {
            let record = super::super::to_record(&endpoint, Timestamp::default(), under(&keys));
            let text = String::from_utf8_lossy(&record);
            assert!(keys.is_empty() || !text.contains("hunter2") && !text.contains("aHVudGVyMg"));
            let read = super::super::from_record(b"ep_1", &record, &keys).unwrap();
            assert_eq!((&read.endpoint, read.unopened), (&endpoint, Vec::new()));
            let file =
                super::super::parse_file(&record, FileFormat::Json, &Policy::default(), &keys);
            assert_eq!(file, Ok(vec![endpoint.clone()]));
        }
    }
}

#[test]
fn nothing_secret_is_shown() {
    for auth in all() {
        let endpoint = endpoint(auth);
        let keys = keys(&["k1"]);
        let record = super::super::to_record(&endpoint, Timestamp::default(), under(&keys));
        let shown = to_display_json(&endpoint, &record).unwrap().to_string();
        let secret = endpoint
            .auth
            .as_ref()
            .is_some_and(|auth| **auth != all()[4]);
        assert_eq!(shown.contains(r#"{"sealed":"v1.k1.…"}"#), secret, "{shown}");
        let record = to_record(&endpoint, Timestamp::default());
        let shown = to_display_json(&endpoint, &record).unwrap();
        let shown = format!("{shown} {endpoint:?}");
        for secret in ["hunter2", "aHVudGVyMg"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}

#[test]
fn mistakes_say_where_and_what_and_repeat_no_secret() {
    for (extra, start) in [
        ("auth: {}", "auth: expected basic, bearer, oauth2 or mtls"),
        (
            "auth: [basic]",
            "auth: expected basic, bearer, oauth2 or mtls, found a list",
        ),
        (
            "auth: {basic: [me, hunter2]}",
            "auth.basic: expected username and password, found a list",
        ),
        (
            "auth: {digest: {}, bearer: {token: x}}",
            "auth.digest: there is no such field",
        ),
        (
            "auth: {bearer: {token: x}, basic: {username: a, password: b}}",
            "auth: expected one of basic, bearer and oauth2, found more",
        ),
        (
            "auth: {basic: {username: a}}",
            "auth.basic.password: is required",
        ),
        (
            "auth: {basic: {username: 'a:b', password: hunter2}}",
            "auth.basic.username: is required",
        ),
        (
            "auth: {basic: {username: a, password: 7}}",
            "auth.basic.password: expected a string",
        ),
        (
            "auth: {bearer: {token: 'hunter2 x'}}",
            "auth.bearer.token: is required, 1 to 8192",
        ),
        (
            "auth: {oauth2: {token_url: 'https://10.0.0.1/', client_id: a, client_secret: hunter2}}",
            "auth.oauth2.token_url: the URL's host is denied",
        ),
        (
            "auth: {oauth2: {token_url: 'https://a.example/', client_id: a, client_secret: hunter2, scopes: ['a b']}}",
            "auth.oauth2.scopes[0]: expected 1 to 256",
        ),
        (
            "auth: {oauth2: {token_url: 'https://a.example/', client_id: a}}",
            "auth.oauth2.client_secret: is required",
        ),
        (
            "auth: {mtls: {certificate: hunter2, key: hunter2}}",
            "auth.mtls.",
        ),
        ("tls: {ca: hunter2}", "tls.ca: is required: PEM"),
        ("tls: {}", "tls.ca: is required: PEM"),
        (
            "headers: {Authorization: hunter2}\nauth: {bearer: {token: x}}",
            "headers.authorization: is set by auth already",
        ),
    ] {
        let yaml =
            format!("id: ep_1\nurl: https://a.example/\nsigning: {{scheme: none}}\n{extra}\n");
        let found = mistakes(&yaml);
        let start = format!("document 1: {start}");
        assert!(
            found.iter().any(|line| line.starts_with(&start)),
            "{start}\n{found:?}"
        );
        assert!(found.len() == 1 || extra.contains("mtls"), "{found:?}");
        assert!(!found.concat().contains("hunter2"), "{found:?}");
    }
    let found = mistakes(&format!(
        "id: ep_1\nurl: https://a.example/\nsigning: {{scheme: none}}\n\
         auth: {{mtls: {{certificate: {CERTIFICATE:?}, key: {CERTIFICATE:?}}}}}\n"
    ));
    assert!(
        found.len() == 1 && found[0].contains("auth.mtls.key"),
        "{found:?}"
    );
}

#[test]
fn a_header_of_ones_own_is_still_taken_without_credentials() {
    let yaml =
        "id: ep_1\nurl: https://a.example/\nsigning: {scheme: none}\nheaders: {Authorization: x}\n";
    assert_eq!(&*parse(yaml).unwrap()[0].headers[0].0, "authorization");
}

#[test]
fn what_does_not_open_or_is_no_use_pauses_the_endpoint() {
    let own = keys(&["k1"]);
    let bearer = |text: &[u8]| Auth {
        credentials: Some(Credentials::Bearer(Secret::new(text))),
        ..Auth::NONE
    };
    for (auth, ring, says) in [
        (
            bearer(b"hunter2"),
            keys(&["k2"]),
            "auth.bearer.token.sealed: ",
        ),
        (
            bearer(b"a b"),
            keys(&["k1"]),
            "auth.bearer.token.sealed: opens, but to nothing",
        ),
    ] {
        let record = super::super::to_record(&endpoint(auth), Timestamp::default(), under(&own));
        let read = super::super::from_record(b"ep_1", &record, &ring).unwrap();
        let (endpoint, unopened) = read.to_send();
        assert_eq!(endpoint.state, EndpointState::Paused);
        assert_eq!(unopened.len(), 1);
        assert!(unopened[0].to_string().starts_with(says), "{}", unopened[0]);
    }
}
