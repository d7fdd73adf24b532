//! Facts about endpoints in records: of other versions, of any size, of anything.

use super::*;

#[test]
fn records_are_read_by_older_and_newer_versions() {
    let record = |extra: &str| {
        let text = format!(
            r#"{{"id":"a","url":"https://10.0.0.1/","signing":{{"scheme":"none","x":1}},
                "version":7,"updated_at":"2026-01-01T00:00:00Z"{extra}}}"#
        );
        from_record(b"a", text.as_bytes())
    };
    assert_eq!(record("").unwrap().version, 7);
    assert!(record(r#","of_the_future":{"a":1}"#).is_ok());
    let limited = record(r#","rate_limit":{"attempts":1,"per":"1s","burst":9}"#).unwrap();
    assert_eq!(limited.rate_limit.unwrap().attempts, 1);
    for bad in [
        r#","rate_limit":{"attempts":0,"per":"1s"}"#,
        r#","ordering":"tenant""#,
        r#","on_exhausted":"block""#,
        r#","filter":"amount > 1""#,
        r#","format":"xml""#,
        r#","template":"x""#,
    ] {
        let refused = record(bad).unwrap_err().to_string();
        let field = bad[2..].split('"').next().unwrap();
        assert!(refused.starts_with(field), "{refused}");
    }
    assert!(from_record(b"b", br#"{"id":"a"}"#).is_err());
    for bad in [&b""[..], b"null", b"[]", b"\xff", br#"{"id":"a"}"#] {
        assert!(from_record(b"a", bad).is_err());
    }
    let other_key = br#"{"id":"a","url":"https://a/","signing":{"scheme":"none"}}"#;
    assert!(
        from_record(b"b", other_key)
            .unwrap_err()
            .to_string()
            .contains("key")
    );
}

/// The mistakes of a text read as a record, whatever its size.
fn noted(json: &str) -> Mistakes {
    let mut noted = Mistakes::default();
    let value = serde_json::from_str(json).expect("JSON");
    let form = read::form(value, UnknownFields::Ignore, &mut noted);
    let endpoint = form.and_then(|form| check(form, &any_http_url, &mut noted));
    assert!(endpoint.is_none());
    noted
}

#[test]
fn a_record_of_nothing_but_mistakes_costs_little() {
    let entries = |n: usize, value: &str| -> String {
        let entries: Vec<String> = (0..n).map(|n| format!("\"{n}\":{value}")).collect();
        entries.join(",")
    };
    let types = format!(r#"{{"types":[{}""]}}"#, "\"\",".repeat(690_000));
    let retry = format!(
        r#"{{"retry":{{"schedule":[{}""]}}}}"#,
        "\"\",".repeat(20_000)
    );
    let secrets = format!(
        r#"{{"signing":{{"secrets":[{}{{}}]}}}}"#,
        "{},".repeat(20_000)
    );
    for (json, first) in [
        (types, "types: at most 100 patterns, found 690001"),
        (retry, "retry.schedule: at most 200 waits, found 20001"),
        (secrets, "signing.secrets: at most 10 secrets, found 20001"),
        (
            format!(r#"{{"headers":{{{}}}}}"#, entries(20_000, "\"\\n\"")),
            "headers: at most 32 headers, found 20000",
        ),
        (
            format!(r#"{{"metadata":{{"":"",{}}}}}"#, entries(20_000, "\"\"")),
            "metadata: at most 50 entries, found 20001",
        ),
        (
            format!(r#"{{"metadata":{{{}}}}}"#, entries(20_000, "1")),
            "metadata.0: expected a string, found a number",
        ),
        (
            format!(r#"{{"metadata":{{"{}":1}}}}"#, "long".repeat(60_000)),
            "metadata.…: expected a string",
        ),
    ] {
        let noted = noted(&json);
        assert!(noted.noted.len() <= read::MISTAKES_MAX, "{first}");
        assert!(noted.to_string().contains(first), "{noted}");
        assert!(
            noted
                .noted
                .iter()
                .all(|(path, text)| path.len() + text.len() < 1_000),
            "{noted}"
        );
        let message = InvalidEndpoint::new(noted.to_string()).to_string();
        assert!(message.len() <= 4 << 10, "{}", message.len());
        let unused = from_record(b"a", json.as_bytes()).unwrap_err().to_string();
        assert!(unused.len() <= 4 << 10, "{}", unused.len());
    }
}

#[test]
fn a_record_past_the_bound_is_not_read() {
    let record = |bytes: usize| {
        let start = r#"{"id":"a","url":"https://a/","signing":{"scheme":"none"}"#;
        format!("{start}{}}}", " ".repeat(bytes - start.len() - 1))
    };
    let fits = record(RECORD_BYTES_MAX);
    assert!(from_record(b"a", fits.as_bytes()).is_ok());
    let error = from_record(b"a", record(RECORD_BYTES_MAX + 1).as_bytes()).unwrap_err();
    assert!(error.to_string().contains("262145 bytes"), "{error}");
}

#[test]
fn the_largest_endpoint_fits_a_record_unless_it_is_all_escapes() {
    let entries = |n: usize, name: usize, value: &str| -> String {
        let line = |n: usize| format!("  x{n:0>width$}: \"{value}\"\n", width = name - 1);
        (0..n).map(line).collect()
    };
    let document = |visible: &str, any: &str| {
        let types = format!("  - \"{}\"\n", visible.repeat(256)).repeat(100);
        let secrets: String = (0..10)
            .map(|n| {
                format!("  - {{id: s{n:0>63}, value: {SECRET}, not_after: 2026-12-01T00:00:00Z}}\n")
            })
            .collect();
        let waits = vec!["1h 1m 1s 1ms"; 200].join(", ");
        format!(
            "id: {}\ntenant: {}\nurl: https://a.example/{}\ndescription: {}\ntypes:\n{types}\
             signing:\n secrets:\n{secrets}retry: {{window: 30d, schedule: [{waits}]}}\n\
             headers:\n{}metadata:\n{}format: template\ntemplate: {}",
            "i".repeat(64),
            "t".repeat(128),
            "p".repeat(2_000),
            "d".repeat(1_024),
            entries(32, 64, &visible.repeat(1_024)),
            entries(50, 64, &any.repeat(512)),
            "t".repeat(64 << 10),
        )
    };
    let largest = parse(&document("h", "m")).unwrap();
    let bytes = to_record(&largest[0], Timestamp::default()).len();
    assert!((154 << 10..192 << 10).contains(&bytes), "{bytes}");
    let found = mistakes(&document("\\\"", "\\x01"));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("document 1: as a record it has"),
        "{found:?}"
    );
    assert!(
        found[0].ends_with("shorten metadata, headers, types, template, auth or certificates"),
        "{found:?}"
    );
}

fn any_duration(max_ms: u64) -> impl Strategy<Value = Duration> {
    (100..=max_ms).prop_map(Duration::from_millis)
}

prop_compose! {
    fn any_retry()(
        schedule in proptest::collection::vec(any_duration(3_600_000), 0..20),
        window in any_duration(86_400_000),
        jitter_permille in 0..=500_u16,
        preset in proptest::option::of(0..4_usize),
    ) -> RetryPolicy {
        let total: Duration = schedule.iter().sum();
        preset.map_or_else(
            || RetryPolicy {
                schedule: schedule.into(),
                window: window + total + Duration::from_secs(1),
                jitter_permille,
            },
            |n| RetryPreset::ALL[n].policy(),
        )
    }
}

prop_compose! {
    fn any_signing()(
        scheme in 0..10_usize,
        encoded in any::<bool>(),
        keys in proptest::collection::vec(
            (any::<[u8; 32]>(), proptest::option::of(0..253_370_000_000_000_000_u64)),
            1..=10,
        ),
    ) -> Signing {
        let mut scheme = scheme_named(scheme_names().nth(scheme).unwrap()).unwrap();
        if let Scheme::Jws(form) = &mut scheme {
            form.encoded = encoded;
        }
        let secret = |(n, (key, not_after)): (usize, ([u8; 32], Option<u64>))| SigningSecret {
            id: format!("s{n}").into(),
            key: generate_key(&scheme, key),
            not_after: not_after.map(Timestamp::from_micros),
        };
        let secrets = keys.into_iter().enumerate().map(secret).collect();
        Signing { scheme, secrets }
    }
}

prop_compose! {
    fn any_rate_limit()(
        per_ms in 1_000..=86_400_000_u64,
        share in 0.0..=1.0_f64,
        smooth in any::<bool>(),
    ) -> RateLimit {
        let max = (per_ms * 10).min(100_000_000);
        RateLimit {
            attempts: ((max as f64 * share) as u32).max(1),
            per: Duration::from_millis(per_ms),
            smooth,
        }
    }
}

prop_compose! {
    fn any_endpoint()(
        id in "[A-Za-z0-9_-]{1,64}",
        tenant in "[^\\pC]{1,30}",
        path in "[a-z0-9/]{0,20}",
        state in 0..3_usize,
        version in any::<u64>(),
        types in proptest::collection::vec("[a-z]{1,8}(\\.[a-z]{1,8})?(\\.\\*)?", 0..10),
        signing in any_signing(),
        (concurrency, timeout) in (
            proptest::option::of(1..=1_000_u16),
            proptest::option::of((1_000..=60_000_u64).prop_map(Duration::from_millis)),
        ),
        retry in proptest::option::of(any_retry()),
        (filter, success) in (
            proptest::option::of(filter_and_success::any_filter()),
            proptest::option::of(filter_and_success::any_success()),
        ),
        rate_limit in proptest::option::of(any_rate_limit()),
        (ordering, block) in (0..3_usize, any::<bool>()),
        (format, template) in (0..6_usize, "[ -z]{1,40}"),
        headers in proptest::collection::btree_map("x-[a-z0-9]{1,20}", "[!-~]{0,30}", 0..5),
        description in ".{0,100}",
        metadata in proptest::collection::btree_map("\\PC{1,10}", ".{0,30}", 0..5),
    ) -> Endpoint {
        let boxed = |map: std::collections::BTreeMap<String, String>| {
            map.into_iter().map(|(n, v)| (n.into(), v.into())).collect()
        };
        let ordering = [Ordering::None, Ordering::Key, Ordering::Endpoint][ordering];
        Endpoint {
            id: id.parse().unwrap(),
            tenant: tenant.parse().unwrap_or_default(),
            url: format!("https://acme.example/{path}").into(),
            state: [EndpointState::Active, EndpointState::Paused, EndpointState::Disabled][state],
            version,
            types: types.iter().filter_map(|text| TypePattern::new(text)).collect(),
            filter: filter.map(Into::into),
            format: [
                Format::Raw,
                Format::Standard,
                Format::CloudEvents,
                Format::CloudEventsBinary,
                Format::Form,
                Format::Template(Template {
                    source: template.as_str().into(),
                    content_type: "text/plain; a=b".into(),
                }),
            ][format].clone(),
            signing,
            concurrency,
            timeout,
            retry,
            rate_limit,
            success,
            ordering,
            on_exhausted: if block && ordering != Ordering::None {
                OnExhausted::Block
            } else {
                OnExhausted::Continue
            },
            auth: None,
            headers: boxed(headers),
            description: description.into(),
            metadata: boxed(metadata),
        }
    }
}

proptest! {
    #[test]
    fn an_endpoint_is_read_as_it_was_written(
        endpoint in any_endpoint(),
        updated_at in 0..253_370_000_000_000_u64,
    ) {
        let record = to_record(&endpoint, Timestamp::from_millis(updated_at));
        let read = from_record(endpoint.id.as_str().as_bytes(), &record);
        prop_assert_eq!(read.as_ref(), Ok(&endpoint));
        let file = parse_file(&record, FileFormat::Json, &Policy::default());
        prop_assert_eq!(file.as_ref(), Ok(&vec![endpoint.clone()]));

        let keys = sealed::keys(&["k1"]);
        let sealed = super::super::to_record(&endpoint, Timestamp::default(), sealed::under(&keys));
        let read = super::super::from_record(endpoint.id.as_str().as_bytes(), &sealed, &keys);
        prop_assert_eq!(read.map(|read| read.endpoint), Ok(endpoint));
    }

    #[test]
    fn any_bytes_are_an_endpoint_or_mistakes(
        bytes in proptest::collection::vec(any::<u8>(), 0..100),
        yaml in "([a-z]{1,5}: ?[\\[{&*!|>'\"a-z0-9-]{0,10}\n( {1,3})?){0,6}",
    ) {
        prop_assert!(from_record(b"a", &bytes).is_err());
        for format in [FileFormat::Yaml, FileFormat::Json] {
            prop_assert!(parse_file(&bytes, format, &Policy::default()).is_err());
        }
        prop_assert!(parse(&yaml).is_err());
    }
}
