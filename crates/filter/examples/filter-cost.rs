//! What filters cost: compiling one, keeping one, reading data, asking one.
//!
//! ```sh
//! cargo run --release -p postrider-filter --example filter-cost
//! ```
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use postrider_domain::{Event, Timestamp};
use postrider_filter::{DATA_BYTES_MAX, Decision, Filter, SOURCE_BYTES_MAX, Seen};

const TYPICAL: &str = "data.amount > 1000 && data.currency in ['EUR', 'USD']";

fn main() {
    compiling();
    keeping();
    reading();
    asking();
    asking_all();
}

/// The fastest of several runs, each of `count` calls, for one call.
fn time(count: u32, mut call: impl FnMut()) -> Duration {
    let run = |_| {
        let begun = Instant::now();
        for _ in 0..count {
            call();
        }
        begun.elapsed() / count
    };
    (0..5).map(run).min().unwrap_or_default()
}

fn compiling() {
    println!("compiling");
    let deep = format!("{}true{}", "(".repeat(12), ")".repeat(12));
    let sums = format!("data{} > 1", "+1".repeat(20));
    let wide = vec!["data.a > 1"; 60].join(" && ");
    let list = vec!["1"; 380].join(",");
    let list = format!("data.a in [{list}]");
    let loops = format!(
        "{}x0{}",
        (0..6)
            .map(|n| format!("data.a.all(x{n}, "))
            .collect::<String>(),
        ")".repeat(6)
    );
    let bangs = format!("{}true", "!".repeat(390));
    let minus = format!("data == {}1", "-".repeat(390));
    let plus = format!("data == 1{}", "+1".repeat(390));
    let dots = format!("data{}", ".a".repeat(390));
    let ternary = format!("{}true", "true?false:".repeat(15));
    let typo = format!("data{}", "[0".repeat(12));
    let texts = format!("data in ['{}']", "a','".repeat(390));
    for (name, source) in [
        ("typical", TYPICAL),
        ("12 brackets", &deep),
        ("20 additions", &sums),
        ("60 comparisons", &wide),
        ("380 numbers in a list", &list),
        ("6 loops", &loops),
        ("390 times !", &bangs),
        ("390 times -", &minus),
        ("390 additions", &plus),
        ("390 dots", &dots),
        ("15 conditions", &ternary),
        ("12 open brackets", &typo),
        ("390 texts", &texts),
    ] {
        assert!(source.len() <= SOURCE_BYTES_MAX, "{name}");
        let compiled = Filter::compile(source);
        let nodes = compiled.as_ref().map_or(0, Filter::nodes);
        let took = time(20, || drop(black_box(Filter::compile(source))));
        let end = compiled.err().map_or_else(String::new, |e| e.to_string());
        println!("  {name:24} {took:>10.1?} {nodes:4} nodes  {end}");
    }
}

fn keeping() {
    println!("keeping 100 000 different ones");
    let resident = || {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let resident = pages
            .split(' ')
            .nth(1)
            .and_then(|n| n.parse::<usize>().ok());
        resident.unwrap_or_default() * 4_096
    };
    for source in [
        "data.amount > ",
        "data.currency in ['EUR', 'USD'] && data.amount > ",
    ] {
        let before = resident();
        let filters: Vec<Filter> = (0..100_000)
            .filter_map(|n| Filter::compile(&format!("{source}{n}")).ok())
            .collect();
        let each = (resident() - before) / filters.len();
        println!(
            "  {source}N: {each} bytes each, {} nodes",
            filters[0].nodes()
        );
    }
}

fn event(data: String) -> Event {
    Event {
        id: "evt_1".into(),
        source: "payments".into(),
        event_type: "payment.captured".into(),
        tenant: "acme".parse().expect("a tenant"),
        time: None,
        ordering_key: None,
        content_type: None,
        traceparent: None,
        extensions: Vec::new(),
        data: Bytes::from(data),
        accepted_at: Timestamp::default(),
    }
}

fn payment() -> String {
    let item = r#"{"sku":"A-1","name":"a thing","quantity":2,"price":499}"#;
    let items = vec![item; 20].join(",");
    format!(
        r#"{{"id":"pay_1","amount":1200,"currency":"EUR","status":"captured",
        "customer":{{"id":"cus_1","country":"DE","email":"a@b.example"}},"items":[{items}]}}"#
    )
}

fn full(item: &str) -> String {
    let count = (DATA_BYTES_MAX - 10) / (item.len() + 1);
    format!("[{}]", vec![item; count].join(","))
}

fn reading() {
    println!("reading data (with the typical filter on it)");
    for (name, data) in [
        ("a payment", payment()),
        ("256 KiB of lists", full("[]")),
        ("256 KiB of numbers", full("1")),
        ("256 KiB of objects", full(r#"{"a":1}"#)),
        ("256 KiB of members", {
            let members: String = (0..29_000)
                .map(|n| format!(r#""{:x}":1,"#, n * 7919 % 65_536))
                .collect();
            format!("{{{}\"z\":1}}", members)
        }),
        (
            "256 KiB of text",
            format!("\"{}\"", "a".repeat(DATA_BYTES_MAX - 2)),
        ),
    ] {
        let event = event(data);
        let filter = Filter::compile("data == null").expect("a filter");
        let took = time(5, || {
            black_box(filter.decide(&event, &mut Seen::default()));
        });
        println!("  {name:24} {took:>10.1?}  {} bytes", event.data.len());
    }
}

fn asking() {
    println!("asking, once the data is read");
    let numbers = full("1");
    let long = format!(
        r#"{{"a":"{0}","b":"{0}"}}"#,
        "a".repeat(DATA_BYTES_MAX / 2 - 20)
    );
    let texts = full(&format!("\"{}\"", "b".repeat(1_000)));
    let lists = full("[1,2]");
    let sums = format!("data.a{} == ''", "+data.a".repeat(20));
    let same = vec!["data == data"; 20].join(" && ");
    let words = ["x.contains('aaaaaaaaaaaaaaaa')"; 12].join(" || ");
    let sized = format!("data.all(x, {})", vec!["size(x) > 1"; 20].join(" && "));
    let words = format!("data.exists(x, {words})");
    let doubled = "data.all(x, string(double(x)) != 'a')";
    let mismatched = "data.exists(x, x > 'a')";
    let errors = format!("data.exists(x, {})", ["x + 'a' == 'b'"; 12].join(" || "));
    let again = vec!["size(x) > 1"; 60].join(" && ");
    let again = format!("data.all(x, data.all(y, {again}))");
    let joined = format!(
        "data.all(x, data.all(y, {} != ''))",
        vec!["x"; 15].join(" + ")
    );
    let halves = format!("[\"{0}\",\"{0}\"]", "a".repeat(DATA_BYTES_MAX / 2 - 20));
    let chains = vec![["data.a"; 8].join("+"); 12].join(" == ");
    let wide = format!("data.exists(x, x in [{}])", vec!["2"; 300].join(","));
    for (name, source, data) in [
        ("typical", TYPICAL, payment()),
        ("a type", "type == 'payment.captured'", payment()),
        ("20 items", "data.items.exists(i, i.sku == 'B')", payment()),
        ("true of each", "data.all(x, true)", numbers.clone()),
        (
            "each of each",
            "data.all(x, data.all(y, x == y))",
            numbers.clone(),
        ),
        ("each in all", "data.all(x, x in data)", numbers.clone()),
        ("each in all lists", "data.all(x, x in data)", lists.clone()),
        ("all is all", &same, lists.clone()),
        ("all is all, texts", &same, texts.clone()),
        ("20 long texts in one", &sums, long.clone()),
        ("words in texts", &words, texts.clone()),
        ("sizes of texts", &sized, texts.clone()),
        ("texts again and again", &again, texts.clone()),
        ("a long text again", &again, halves.clone()),
        ("long texts joined", &joined, halves.clone()),
        ("12 chains of long texts", &chains, long.clone()),
        ("numbers as texts", doubled, numbers.clone()),
        ("no overload", mismatched, numbers.clone()),
        ("no addition", &errors, texts.clone()),
        (
            "no addition of long",
            &errors,
            full(&format!("\"{}\"", "b".repeat(60_000))),
        ),
        ("lists of 300", &wide, numbers.clone()),
    ] {
        let event = event(data);
        let filter = match Filter::compile(source) {
            Ok(filter) => filter,
            Err(error) => {
                println!("  {name:24} {error}");
                continue;
            }
        };
        let mut seen = Seen::default();
        let decision = filter.decide(&event, &mut seen);
        let took = time(5, || {
            black_box(filter.decide(&event, &mut seen));
        });
        let end = match decision {
            Decision::Matches => "matches".to_owned(),
            Decision::Differs => "differs".to_owned(),
            Decision::Undecided(why) => why.to_string(),
        };
        println!("  {name:24} {took:>10.1?}  {end}");
    }
}

fn asking_all() {
    println!("asking ten thousand about one event");
    let wide = format!("data.exists(x, x in [{}])", vec!["2"; 300].join(","));
    let doubled = "data.all(x, string(double(x)) != 'a')";
    for (name, source, data) in [
        ("typical", TYPICAL, payment()),
        ("lists of 300", &wide, full("1")),
        ("numbers as texts", doubled, full("1")),
        (
            "each of each",
            "data.all(x, data.all(y, x == y))",
            full("1"),
        ),
    ] {
        let (event, filter) = (event(data), Filter::compile(source).expect("a filter"));
        let took = time(1, || {
            let mut seen = Seen::default();
            for _ in 0..10_000 {
                black_box(filter.decide(&event, &mut seen));
            }
        });
        println!("  {name:24} {took:>10.1?}");
    }
}
