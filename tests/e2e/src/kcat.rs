//! `kcat` as the client that is not ours: it writes events and reads what Postrider wrote.

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

/// Seconds after which a `kcat` that hangs is ended.
const SECONDS_MAX: &str = "120";

/// A record as kcat printed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    pub partition: i32,
    pub offset: i64,
    pub timestamp_ms: u64,
    /// `None` = null.
    pub key: Option<Vec<u8>>,
    /// `None` = null.
    pub value: Option<Vec<u8>>,
    /// Split at commas, which kcat does not escape: values with commas come in pieces.
    pub headers: Vec<(String, String)>,
}

/// Writes; `arguments` say what (`-l FILE`: a record per line; `FILE`: one record).
///
/// # Panics
/// When kcat fails.
pub fn produce(bootstrap: &str, topic: &str, arguments: &[&str]) {
    let limit = "message.max.bytes=8000000";
    let first = ["-P", "-b", bootstrap, "-t", topic, "-X", limit];
    run(&[&first, arguments].concat());
}

/// Reads a topic, all partitions from the beginning to the end.
///
/// # Panics
/// When kcat fails.
pub fn consume(bootstrap: &str, topic: &str) -> Vec<Read> {
    // sizes before contents, so that nothing in them can be taken for a separator
    let format = "%p %o %T %K %S %h\\n%k%s\\n";
    let first = ["-C", "-q", "-e", "-o", "beginning", "-b", bootstrap];
    let output = run(&[&first[..], &["-t", topic, "-f", format]].concat());
    let mut rest = output.stdout.as_slice();
    let mut read = Vec::new();
    while !rest.is_empty() {
        let (record, after) = parse(rest);
        read.push(record);
        rest = after;
    }
    read
}

/// Reads a topic of values without line ends, handing over each line of what `format` makes of
/// its records: for topics larger than memory should hold.
///
/// # Panics
/// When kcat fails.
pub fn each_line(bootstrap: &str, topic: &str, format: &str, mut each: impl FnMut(&str)) {
    let format = format!("{format}\\n");
    let mut kcat = Command::new("timeout")
        .args([SECONDS_MAX, "kcat", "-C", "-q", "-e", "-o", "beginning"])
        .args(["-b", bootstrap, "-t", topic, "-f", &format])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("timeout is part of coreutils");
    let output = BufReader::new(kcat.stdout.take().expect("piped above"));
    for line in output.lines() {
        each(&line.expect("kcat prints text"));
    }
    let status = kcat.wait().expect("it is our child");
    assert!(status.success(), "kcat -C -t {topic}: {status}");
}

fn run(arguments: &[&str]) -> Output {
    let output = Command::new("timeout")
        .args([SECONDS_MAX, "kcat"])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("timeout is part of coreutils");
    assert!(
        output.status.success(),
        "kcat {arguments:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

fn parse(printed: &[u8]) -> (Read, &[u8]) {
    let end = printed.iter().position(|b| *b == b'\n');
    let (head, rest) = printed.split_at(end.expect("a line of sizes"));
    let head = String::from_utf8_lossy(head);
    let mut words = head.splitn(6, ' ');
    let mut number = || -> i64 {
        let word = words.next().expect("five numbers");
        word.parse().unwrap_or_else(|_| panic!("{head:?}"))
    };
    let (partition, offset, timestamp) = (number(), number(), number());
    let (key, value) = (number(), number());
    let (key, rest) = take(&rest[1..], key);
    let (value, rest) = take(rest, value);
    assert_eq!(rest.first(), Some(&b'\n'), "behind the value of {head:?}");
    let read = Read {
        partition: i32::try_from(partition).expect("a partition"),
        offset,
        timestamp_ms: u64::try_from(timestamp).expect("after 1970"),
        key,
        value,
        headers: headers(words.next().unwrap_or_default()),
    };
    (read, &rest[1..])
}

/// The next `size` bytes; -1 = null.
fn take(bytes: &[u8], size: i64) -> (Option<Vec<u8>>, &[u8]) {
    match usize::try_from(size) {
        Ok(size) => (Some(bytes[..size].to_vec()), &bytes[size..]),
        Err(_) => (None, bytes),
    }
}

fn headers(printed: &str) -> Vec<(String, String)> {
    let pairs = printed.split(',').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Read, parse};

    #[test]
    fn contents_may_hold_anything() {
        let printed =
            b"3 17 1700000000000 2 4 pr_reason=undecodable,x=\nk\n\n1 2\n0 1 2 -1 -1 \n\n";
        let (first, rest) = parse(printed);
        let expected = Read {
            partition: 3,
            offset: 17,
            timestamp_ms: 1_700_000_000_000,
            key: Some(b"k\n".to_vec()),
            value: Some(b"\n1 2".to_vec()),
            headers: vec![
                ("pr_reason".into(), "undecodable".into()),
                ("x".into(), String::new()),
            ],
        };
        assert_eq!(first, expected);
        let (second, rest) = parse(rest);
        assert_eq!((second.key, second.value, rest), (None, None, &b""[..]));
    }
}
