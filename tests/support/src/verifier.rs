//! A merchant's endpoint that shares no code with Postrider: `verify/receiver.py`, which checks
//! every request with the standardwebhooks library of PyPI.
//!
//! Leaves what is expected to the test, and replies beyond a status to [`crate::Receiver`].

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tempfile::TempDir;

/// How often [`Verifier::wait_for`] looks into the log.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// One request as the verifier saw it; a line of its log.
#[derive(Clone, Debug, Deserialize)]
pub struct Receipt {
    /// When the last byte was read, ms since the epoch.
    pub arrived_ms: u64,
    /// With the query.
    pub path: String,
    /// `webhook-id`.
    pub id: Option<String>,
    /// `webhook-timestamp`, as it was sent.
    pub timestamp: Option<String>,
    /// `postrider-attempt`, as it was sent.
    pub attempt: Option<String>,
    /// `ok`, or why the library refused the request.
    pub verdict: String,
    /// Of the body, hex.
    pub sha256: String,
    /// The id of the process that sent it, with the rule `--senders`; `None` = it was gone before
    /// it could be found.
    pub sender: Option<u32>,
    /// The member `id` of a body that is a JSON object.
    pub event: Option<serde_json::Value>,
    /// The status that was answered.
    pub status: u16,
}

/// Listens on 127.0.0.1 from [`Verifier::start`] until dropped.
pub struct Verifier {
    address: SocketAddr,
    script: Child,
    folder: TempDir,
}

impl Verifier {
    /// Starts on a free port. All paths share `secret` (`whsec_…`); `rules` are the arguments
    /// `--refuse /PREFIX=STATUS`, `--always /PREFIX=STATUS`, `--fail-first /PREFIX=N`,
    /// `--fail-share /PREFIX=PERCENT`, `--delay /PREFIX=MS` and `--senders NAME` of `receiver.py`,
    /// without which everything is answered 200 at once.
    pub fn start(secret: &str, rules: &[&str]) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("verify/run.sh");
        let folder = TempDir::new().expect("a folder for the log");
        // it ends when the pipe closes, so also when this process is killed
        let spawned = Command::new(&path)
            .arg("--log")
            .arg(folder.path().join("log"))
            .args(["--secret", secret])
            .args(rules)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut script = spawned.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut port = String::new();
        BufReader::new(script.stdout.take().expect("piped above"))
            .read_line(&mut port)
            .expect("it prints text");
        let port: u16 = port.trim().parse().unwrap_or_else(|_| {
            panic!("verify/receiver.py printed {port:?} instead of its port; see above")
        });
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            script,
            folder,
        }
    }

    /// `http://127.0.0.1:PORT` and `path`, which starts with a slash.
    pub fn url(&self, path: &str) -> String {
        assert!(
            path.starts_with('/'),
            "{path:?} does not start with a slash"
        );
        format!("http://{}{path}", self.address)
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The file it writes: a [`Receipt`] in JSON per line.
    pub fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// How many requests were received so far; costs less than [`Verifier::receipts`].
    pub fn count(&self) -> usize {
        let log = fs::read(self.folder.path().join("log")).unwrap_or_default();
        log.iter().filter(|byte| **byte == b'\n').count()
    }

    /// Everything received so far, in order of arrival.
    pub fn receipts(&self) -> Vec<Receipt> {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        // a line without its end is still being written
        let lines = log
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        lines
            .map(|line| serde_json::from_str(line).expect("the log holds receipts"))
            .collect()
    }

    /// Waits until what was received satisfies `enough`, and returns it.
    ///
    /// # Panics
    /// When it does not within `limit`.
    #[track_caller]
    pub fn wait_for(&self, limit: Duration, enough: impl Fn(&[Receipt]) -> bool) -> Vec<Receipt> {
        let deadline = Instant::now() + limit;
        loop {
            let receipts = self.receipts();
            if enough(&receipts) {
                return receipts;
            }
            assert!(
                Instant::now() < deadline,
                "still not enough after {limit:?}: {} requests, the last {:?}",
                receipts.len(),
                receipts.last()
            );
            thread::sleep(LOOK_EVERY);
        }
    }
}

impl Drop for Verifier {
    fn drop(&mut self) {
        drop(self.script.stdin.take());
        self.script
            .wait()
            .expect("the script was started and not waited for");
    }
}

#[cfg(test)]
mod tests {
    use super::Verifier;
    use postrider_domain::{Scheme, Signing, SigningSecret, Timestamp};
    use postrider_signing::{Message, parse_key, sign};
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const OTHER_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    const BODY: &str = r#"{"id":"e-1"}"#;

    /// The lines of a request's head that say who sent it.
    fn signed(secrets: &[&str], id: &str) -> String {
        let secrets = secrets.iter().map(|secret| SigningSecret {
            id: "s".into(),
            key: parse_key(&Scheme::Standard, secret).expect("a valid secret"),
            not_after: None,
        });
        let signing = Signing {
            scheme: Scheme::Standard,
            secrets: secrets.collect(),
        };
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = since_epoch.expect("after 1970").as_secs();
        let message = Message {
            id,
            at: Timestamp::from_secs(now),
            url: "http://test/",
            content_type: "application/json",
            body: BODY.as_bytes(),
        };
        let mut lines = format!("webhook-id: {id}\r\nwebhook-timestamp: {now}\r\n");
        for (name, value) in sign(&signing, &message).expect("a valid secret") {
            lines += &format!("{name}: {value}\r\n");
        }
        lines
    }

    /// The status the request got.
    fn post(verifier: &Verifier, path: &str, headers: &str, body: &str) -> u16 {
        let mut stream = TcpStream::connect(verifier.address()).expect("it listens");
        let limit = Some(Duration::from_secs(20));
        stream.set_read_timeout(limit).expect("a limit above zero");
        let length = body.len();
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {length}\r\n\
             {headers}postrider-attempt: 1\r\n\r\n{body}"
        )
        .expect("it reads");
        let mut status_line = [0; 12];
        stream.read_exact(&mut status_line).expect("it answers");
        let text = String::from_utf8_lossy(&status_line);
        text["HTTP/1.1 ".len()..].parse().expect("a status")
    }

    #[test]
    fn a_foreign_library_accepts_our_signature_and_refuses_a_tampered_body() {
        let verifier = Verifier::start(SECRET, &[]);
        // rotation: the receiver still has the old secret
        let headers = signed(&[OTHER_SECRET, SECRET], "d1");
        assert_eq!(post(&verifier, "/in", &headers, BODY), 200);
        assert_eq!(post(&verifier, "/in", &headers, r#"{"id":"e-2"}"#), 200);
        assert_eq!(
            post(&verifier, "/in", &signed(&[OTHER_SECRET], "d2"), BODY),
            200
        );

        let receipts = verifier.receipts();
        assert_eq!(receipts.len(), 3, "a line is written before its answer");
        assert_eq!(receipts[0].verdict, "ok");
        for refused in &receipts[1..] {
            assert!(
                refused.verdict.contains("No matching signature"),
                "{refused:?}"
            );
        }
        assert_eq!(receipts[0].id.as_deref(), Some("d1"));
        assert_eq!(receipts[0].attempt.as_deref(), Some("1"));
        assert_eq!(receipts[0].event, Some("e-1".into()));
    }

    #[test]
    fn failures_follow_the_rules() {
        let rules = ["--fail-first", "/flaky=2", "--always", "/dead=503"];
        let verifier = Verifier::start(SECRET, &rules);
        let (one, other) = (signed(&[SECRET], "d1"), signed(&[SECRET], "d2"));
        let statuses = [&one, &one, &other, &one, &other, &other]
            .map(|headers| post(&verifier, "/flaky/a", headers, BODY));
        assert_eq!(statuses, [500, 500, 500, 200, 500, 200]);
        assert_eq!(post(&verifier, "/dead", &one, BODY), 503);
        let receipts = verifier.wait_for(Duration::ZERO, |receipts| receipts.len() == 7);
        assert!(
            receipts.iter().all(|receipt| receipt.verdict == "ok"),
            "{receipts:?}"
        );
        assert_eq!(receipts[6].status, 503);
    }
}
