//! What templates that are written to do harm come to: an end, soon, within memory and stack.

use std::time::{Duration, Instant};

use super::templates::{signing, template};
use super::*;

/// Runs in a thread with the stack that workers have, and must end in time, whatever it comes to.
#[track_caller]
fn assert_bounded(name: &str, content_type: &'static str, source: String, data: Vec<u8>) {
    let started = Instant::now();
    let run = move || {
        let mut endpoint = endpoint(Format::Template(template(content_type, &source)));
        endpoint.signing = signing();
        let mut event = event(JSON, b"");
        event.data = data.into();
        let delivery = delivery(event);
        let renderer = Renderer::default();
        let compiled = Instant::now();
        let length = renderer
            .render(&endpoint, &delivery)
            .map(|rendered| rendered.body.len());
        (length, compiled.elapsed())
    };
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(run);
    let (length, took) = thread.expect("a thread").join().expect("no panic");
    println!("{name}: {length:?} after {took:?}");
    assert!(
        length.is_err_and(|error| !error.to_string().is_empty()),
        "{name} is hostile"
    );
    // Far from the bound in an optimised build; this one is not, and others run beside it.
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{name}: {:?}",
        started.elapsed()
    );
}

#[test]
fn hostile_templates_end_soon() {
    let small = br#"{"a":"x","n":[1,2,3,4,5,6,7,8,9,10]}"#.to_vec();
    let large = || format!("{{\"s\":\"{}\",\"n\":[1,2]}}", "x".repeat(250 << 10)).into_bytes();
    let plain = "text/plain";
    let nested = |depth: usize, inner: &str| {
        let open: String = (0..depth)
            .map(|n| format!("{{% for v{n} in data.n %}}"))
            .collect();
        format!("{open}{inner}{}", "{% endfor %}".repeat(depth))
    };
    let looped = |body: &str| {
        let set = "{% set x = data.s ~ 'a' %}{% set y = data.s ~ 'a' %}";
        format!("{set}{}{{{{ data.missing }}}}", nested(16, body))
    };
    let doubled = format!(
        "{{% set x = data.a %}}{}{{{{ x }}}}",
        "{% set x = x ~ x %}".repeat(60)
    );
    let captured = format!(
        "{{% set x = data.a %}}{}{{{{ x }}}}",
        "{% set x %}{{ x }}{{ x }}{% endset %}".repeat(60)
    );
    let listed = format!(
        "{{% set x = data.n %}}{}{{{{ x | tojson }}}}",
        "{% set x = x + x %}".repeat(60)
    );
    let shared = format!(
        "{{% set x = data.n %}}{}{{{{ x | tojson }}}}",
        "{% set x = [x, x] %}".repeat(40)
    );
    let deep = |use_of: &str| {
        format!(
            "{{% set x = data.a %}}{}{use_of}",
            "{%set x=[x]%}".repeat(4_900)
        )
    };
    for (name, source) in [
        ("string repetition", "{{ 'x' * 999999999999 }}".to_owned()),
        (
            "string repetition in steps",
            "{% set x = 'x' * 9999 %}{% set x = x * 9999 %}{{ x * 9999 }}".to_owned(),
        ),
        (
            "list repetition",
            "{{ [1] * 99999999999 | tojson }}".to_owned(),
        ),
        ("power", "{{ 9 ** 9 ** 9 ** 9 }}".to_owned()),
        ("doubling by concatenation", doubled),
        ("doubling by capture", captured),
        ("doubling of lists", listed),
        ("lists shared twice each", shared),
        ("loops in loops", nested(30, "")),
        ("loops in loops that print", nested(12, "{{ data.a }}")),
        (
            "recursive loop",
            "{% for x in data.n recursive %}{{ loop(data.n) }}{% endfor %}".to_owned(),
        ),
        (
            "replace to large",
            "{{ ('a' * 100000) | replace('a', 'b' * 100000) }}".to_owned(),
        ),
        (
            "join with large",
            "{{ ('a' * 10000) | join('b' * 100000) }}".to_owned(),
        ),
        (
            "round to many digits",
            "{{ 1.5 | round(2000000000) }}{{ data.missing }}".to_owned(),
        ),
        (
            "dates that pad",
            format!("{{{{ 1 | date('{}') }}}}", "%250Y".repeat(1_000)),
        ),
        (
            "nested lists as text",
            deep("{{ x ~ 'a' }}{{ data.missing }}"),
        ),
        ("nested lists as JSON", deep("{{ x | tojson }}")),
        (
            "nested lists compared",
            deep("{% if x == [x] %}a{% endif %}{{ data.missing }}"),
        ),
        ("nested lists dropped", deep("{{ data.missing }}")),
        (
            "nested expressions",
            format!("{{{{ {}1{} }}}}", "(".repeat(10_000), ")".repeat(10_000)),
        ),
        (
            "nested conditions",
            "{% if 1 %}".repeat(6_000) + "{% endif %}",
        ),
        (
            "long chain of filters",
            format!(
                "{{{{ data.a{} }}}}{{{{ data.missing }}}}",
                "|upper".repeat(9_000)
            ),
        ),
        (
            "long chain of fields",
            format!("{{{{ data{} }}}}", ".a".repeat(30_000)),
        ),
        (
            "long chain of calls",
            format!("{{{{ data{} }}}}", "()".repeat(30_000)),
        ),
        (
            "long chain of tests",
            format!("{{{{ data{} }}}}", " is a".repeat(12_000)),
        ),
        (
            "long chain of text",
            format!("{{{{ data.a{} }}}}", "~1".repeat(30_000)),
        ),
        (
            "long chain of or",
            format!("{{{{ data.a{} }}}}", " or 1".repeat(12_000)),
        ),
        (
            "long chain of minus",
            format!("{{{{ {}1 }}}}", "-".repeat(60_000)),
        ),
        (
            "long chain of not",
            format!("{{{{ {}1 }}}}", "not ".repeat(15_000)),
        ),
        (
            "long chain of powers",
            format!("{{{{ 1{} }}}}", "**1".repeat(20_000)),
        ),
        (
            "long chain of ifs",
            format!("{{{{ 1{} }}}}", " if 1 else 1".repeat(5_000)),
        ),
        (
            "long chain of comparisons",
            format!("{{{{ 1{} }}}}", "<1".repeat(30_000)),
        ),
        (
            "long chain of elif",
            format!(
                "{{% if 0 %}}{}{{% endif %}}{{{{ data.missing }}}}",
                "{% elif 0 %}".repeat(5_000)
            ),
        ),
        (
            "many lists in lists",
            format!("{{{{ {}{} }}}}", "[".repeat(30_000), "]".repeat(30_000)),
        ),
        (
            "delimiters in text",
            format!("{{{{ '}}}}'{} }}}}", "|upper".repeat(9_000)),
        ),
        (
            "many sets",
            "{% set a = 1 %}".repeat(4_000) + "{{ data.missing }}",
        ),
        (
            "many filters in a block",
            "{% filter upper %}".repeat(3_000) + "{% endfilter %}",
        ),
        ("many with", "{% with a=1 %}".repeat(4_000)),
        ("width", format!("{{{{ [{}] }}}}", "1,".repeat(30_000))),
    ] {
        assert_bounded(name, plain, source, small.clone());
    }
    for (name, source) in [
        (
            "large data compared in loops",
            looped("{% if x == y %}{% endif %}"),
        ),
        (
            "large data named in loops",
            looped("{% if data[y] is defined %}{% endif %}"),
        ),
        (
            "large data trimmed of itself",
            looped("{% if (x | trim(y)) == '' %}{% endif %}"),
        ),
        (
            "objects as texts",
            looped("{% if ('' | replace(data, data)) == '' %}{% endif %}"),
        ),
        (
            "large texts that are looked for",
            looped("{% if ('' | replace(x, y)) == '' %}{% endif %}"),
        ),
        (
            "a path in a join",
            looped("{% if (data.n | join('', x)) == '' %}{% endif %}"),
        ),
        (
            "large texts in lists",
            looped("{% if x in [y ~ '', 'a'] %}{% endif %}"),
        ),
        (
            "large texts searched in small ones",
            looped("{% if x in 'a' %}{% endif %}"),
        ),
        (
            "large texts as numbers",
            looped("{% if (x | int(0)) == 1 %}{% endif %}"),
        ),
        (
            "rounding far",
            looped("{% if (1.5 | round(-2147483647)) == 1 %}{% endif %}"),
        ),
        (
            "larger texts compared",
            looped("{% set z = x ~ y ~ x %}{% if z == z ~ '' %}{% endif %}"),
        ),
        (
            "large data as a joiner",
            "{{ data.s | join(data.s) }}".to_owned(),
        ),
        (
            "large data as what replaces",
            "{{ data.s | replace('x', data.s) }}".to_owned(),
        ),
        (
            "large data trimmed",
            looped("{% if (x | trim('x')) == '' %}{% endif %}"),
        ),
        ("large data as a truth", looped("{% if x %}{% endif %}")),
        (
            "large data as text again and again",
            looped("{% if (data ~ '') == '' %}{% endif %}"),
        ),
        (
            "large data hashed again and again",
            "{{ data.s | sha256 | hex }}".repeat(2_000),
        ),
        (
            "large data printed again and again",
            "{{ data.s }}".repeat(5_000),
        ),
        (
            "large data in JSON again and again",
            "{{ data | tojson | length }}".repeat(2_000),
        ),
        (
            "large data concatenated",
            format!(
                "{{% set x = data.s %}}{}",
                "{% set x = x ~ data.s %}".repeat(2_000)
            ),
        ),
        (
            "large data compared",
            "{% if data.s == data.s ~ 'a' %}{% endif %}".repeat(1_500),
        ),
        (
            "large data searched",
            "{% if 'xy' in data.s %}{% endif %}".repeat(1_900),
        ),
        (
            "large data cut",
            "{{ data.s[::-1] | length }}".repeat(2_000),
        ),
        (
            "large data in other letters",
            "{{ data.s | upper | length }}".repeat(2_000),
        ),
    ] {
        assert_bounded(name, plain, source, large());
    }
    let many = || format!("[{}1]", "1,".repeat(90_000)).into_bytes();
    for (name, source) in [
        (
            "many values in loops",
            "{% for a in data %}{% for b in data %}{% endfor %}{% endfor %}".to_owned(),
        ),
        (
            "many values in JSON",
            "{{ data | tojson | length }}".repeat(2_000),
        ),
        (
            "many values compared",
            "{% if data == data %}{% endif %}".repeat(2_000),
        ),
        (
            "many values searched",
            "{% for a in data %}{% if 7 in data %}{% endif %}{% endfor %}".to_owned(),
        ),
        (
            "many values joined",
            "{{ data | join('') | length }}".repeat(2_000),
        ),
        (
            "many values as text",
            "{% set x = '' ~ data %}".repeat(2_500),
        ),
    ] {
        assert_bounded(name, "application/json", source, many());
    }
}
