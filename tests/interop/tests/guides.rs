//! The code of the pages in `docs/guides/verify` accepts what we sign and refuses everything else.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use postrider_domain::{Scheme, Signing, SigningSecret, Timestamp};
use postrider_signing::{ID_HEADER, Message, TIMESTAMP_HEADER, parse_key, sign};

const OURS: &str = "whsec_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";
const NEWER: &str = "whsec_ISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+P0A=";
const ID: &str = "dlv_0123456789abcdef0123456789abcdef";
const SIGNATURE: &str = "webhook-signature";
/// Not ASCII, with line ends and a space that somebody could think does not matter.
const BODY: &str =
    "{\"type\":\"payment.captured\",\r\n \"data\":{\"note\":\"caf\u{e9} \u{20ac}\"}}\n";
/// How old a request may be.
const TOLERANCE: u64 = 300;

/// Each language, which is also the name of its page; how its code block is called.
const LANGUAGES: [(&str, &str); 7] = [
    ("python", "python"),
    ("node", "js"),
    ("go", "go"),
    ("java", "java"),
    ("php", "php"),
    ("ruby", "ruby"),
    ("csharp", "csharp"),
];

/// A request as it reached the receiver whose secret is [`OURS`].
struct Received {
    name: &'static str,
    accepted: bool,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Received {
    fn new(name: &'static str, accepted: bool, secrets: &[&str], age: i64) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.expect("after 1970").as_secs();
        let at = now.checked_add_signed(-age).expect("about now");
        let secret = |text: &&str| SigningSecret {
            id: "s".into(),
            key: parse_key(&Scheme::Standard, text).expect("a key of the scheme"),
            not_after: None,
        };
        let signing = Signing {
            scheme: Scheme::Standard,
            secrets: secrets.iter().map(secret).collect(),
        };
        let message = Message {
            id: ID,
            at: Timestamp::from_secs(at),
            url: "https://merchant.example/hooks",
            content_type: "application/json",
            body: BODY.as_bytes(),
        };
        let mut headers = vec![
            (ID_HEADER.to_owned(), ID.to_owned()),
            (TIMESTAMP_HEADER.to_owned(), at.to_string()),
        ];
        let signed = sign(&signing, &message).expect("valid keys").into_iter();
        headers.extend(signed.map(|(name, value)| (name.to_owned(), value)));
        Self {
            name,
            accepted,
            headers,
            body: BODY.into(),
        }
    }

    /// Genuine, before somebody changed it.
    fn changed(name: &'static str, change: impl FnOnce(&mut Self)) -> Self {
        let mut received = Self::new(name, false, &[OURS], 0);
        change(&mut received);
        received
    }

    fn header(&mut self, name: &str) -> &mut String {
        let mut headers = self.headers.iter_mut();
        let found = headers.find(|(known, _)| known == name);
        &mut found.expect("it has that header").1
    }

    fn without(name: &'static str, header: &str) -> Self {
        Self::changed(name, |r| r.headers.retain(|(known, _)| known != header))
    }

    fn with(name: &'static str, header: &str, value: &str) -> Self {
        Self::changed(name, |r| value.clone_into(r.header(header)))
    }

    /// As the programs read it: secret, body and headers, separated by tabs.
    fn line(&self) -> String {
        let headers = self.headers.iter();
        let headers: Vec<String> = headers.map(|(n, v)| format!("\t{n}: {v}")).collect();
        format!(
            "{OURS}\t{}{}",
            STANDARD.encode(&self.body),
            headers.concat()
        )
    }
}

fn requests() -> Vec<Received> {
    let genuine = |name, secrets: &[&str], age| Received::new(name, true, secrets, age);
    let mut v1a_first = genuine("a signature of another version first", &[OURS], 0);
    v1a_first
        .header(SIGNATURE)
        .insert_str(0, "v1a,YFREABkSTKQHC9dCd0/vHtSkOxoqR+n1qzA952+33o4= ");
    let mut empty = genuine("an item without a signature first", &[OURS], 0);
    empty.header(SIGNATURE).insert_str(0, "v1 v1, ");
    let near = i64::try_from(TOLERANCE - 30).expect("some minutes");
    let far = i64::try_from(TOLERANCE + 30).expect("some minutes");
    let forged = |name, age| Received::new(name, false, &[OURS], age);
    vec![
        genuine("as it is sent", &[OURS], 0),
        genuine("the second of two signatures", &[NEWER, OURS], 0),
        genuine("the first of two signatures", &[OURS, NEWER], 0),
        v1a_first,
        empty,
        genuine("almost too old", &[OURS], near),
        genuine("a clock that runs ahead a little", &[OURS], -near),
        forged("too old", far),
        forged("of the future", -far),
        Received::new("another secret", false, &[NEWER], 0),
        Received::changed("another body", |r| r.body[20] ^= 1),
        Received::changed("a body that was trimmed", |r| {
            r.body.truncate(BODY.len() - 1)
        }),
        Received::changed("no body", |r| r.body.clear()),
        Received::with("another id", ID_HEADER, "dlv_1"),
        Received::changed("the signature under another version", |r| {
            let signature = r.header(SIGNATURE);
            *signature = signature.replace("v1,", "v1a,");
        }),
        Received::changed("the beginning of the signature", |r| {
            r.header(SIGNATURE).truncate("v1,".len() + 8);
        }),
        Received::without("no id", ID_HEADER),
        Received::without("no timestamp", TIMESTAMP_HEADER),
        Received::without("no signature", SIGNATURE),
        Received::with("an empty signature", SIGNATURE, ""),
        Received::with("a version alone", SIGNATURE, "v1"),
        Received::with("a signature of nothing", SIGNATURE, "v1,"),
        Received::with(
            "a signature that is no base64",
            SIGNATURE,
            "v1,\u{e9}\u{20ac}!",
        ),
        Received::with("a timestamp that is no number", TIMESTAMP_HEADER, "soon"),
        Received::with("an empty timestamp", TIMESTAMP_HEADER, ""),
        Received::with(
            "a timestamp below all numbers",
            TIMESTAMP_HEADER,
            &format!("-{}", "9".repeat(40)),
        ),
        Received::with(
            "a timestamp above all numbers",
            TIMESTAMP_HEADER,
            &"9".repeat(400),
        ),
    ]
}

fn pages() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guides/verify")
}

/// The first code block of a page.
fn code(language: &str, fence: &str) -> String {
    let path = pages().join(language).with_extension("md");
    let page = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let (_, rest) = page
        .split_once(&format!("\n```{fence}\n"))
        .unwrap_or_else(|| panic!("{} has no ```{fence}", path.display()));
    let (code, _) = rest.split_once("\n```\n").expect("a block has an end");
    format!("{code}\n")
}

/// Runs the code of a page over all requests.
fn run(language: &str) {
    let (_, fence) = LANGUAGES
        .iter()
        .find(|(name, _)| *name == language)
        .expect("a language with a page");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("guide-{language}"));
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
        _ => fs::create_dir_all(&folder).expect("a folder below target"),
    }
    fs::write(folder.join("code"), code(language, fence)).expect("a file below target");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("guides.sh");
    let mut child = Command::new(script)
        .arg(language)
        .arg(&folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the script is there");
    let requests = requests();
    let lines: String = requests.iter().map(|r| r.line() + "\n").collect();
    let mut input = child.stdin.take().expect("it is piped");
    let written = input.write_all(lines.as_bytes());
    drop(input);
    let output = child.wait_with_output().expect("it was started");
    assert!(output.status.success(), "{language} failed; see above");
    written.expect("it reads to the end");
    let verdicts = String::from_utf8(output.stdout).expect("words");
    let verdicts: Vec<&str> = verdicts.lines().map(str::trim_end).collect();
    assert_eq!(verdicts.len(), requests.len(), "{verdicts:?}");
    for (request, verdict) in requests.iter().zip(verdicts) {
        let right = if request.accepted {
            "accepted"
        } else {
            "refused"
        };
        assert_eq!(verdict, right, "{language}: {}", request.name);
    }
}

#[test]
fn the_python_page_verifies() {
    run("python");
}

#[test]
fn the_node_page_verifies() {
    run("node");
}

#[test]
fn the_go_page_verifies() {
    run("go");
}

#[test]
fn the_java_page_verifies() {
    run("java");
}

#[test]
fn the_php_page_verifies() {
    run("php");
}

#[test]
fn the_ruby_page_verifies() {
    run("ruby");
}

#[test]
fn the_csharp_page_verifies() {
    run("csharp");
}

#[test]
fn every_page_is_run_and_in_the_index() {
    let entries = fs::read_dir(pages()).expect("the folder of the pages");
    let names = entries.map(|entry| entry.expect("a readable folder").file_name());
    let names: BTreeSet<String> = names.map(|n| n.to_string_lossy().into_owned()).collect();
    let run = LANGUAGES.iter().map(|(name, _)| format!("{name}.md"));
    let known: BTreeSet<String> = run.chain(["README.md".to_owned()]).collect();
    assert_eq!(names, known);
    let index = fs::read_to_string(pages().join("README.md")).expect("an index");
    for (name, _) in LANGUAGES {
        assert!(index.contains(&format!("({name}.md)")), "{name}");
    }
}
