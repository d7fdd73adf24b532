//! The running `kafka/broker.sh`: a broker that ends when the pipe from this process closes, so
//! that no exit of a test, however abrupt, leaves one behind.
//!
//! Decides how orders and answers go to and fro. Leaves what a broker is for to `broker` and
//! `cluster`.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

/// How long an order may take. The script gives up on a start by itself; the first
/// start on a machine also fetches the jars.
const ANSWER_WITHIN: Duration = Duration::from_secs(300);

/// Where a broker is.
pub(crate) struct Ready {
    pub(crate) bootstrap: String,
    /// `None`: someone else's.
    pub(crate) pid: Option<u32>,
    /// `None`: it does not tell its counters.
    pub(crate) jmx_port: Option<u16>,
}

/// The running `broker.sh`: one line per order, one line per answer.
pub(crate) struct Keeper {
    script: Child,
    /// `None` only while dropping: closing it is the last order.
    orders: Option<ChildStdin>,
    /// Locked by nobody: it lets the shared broker be a static.
    answers: Mutex<Receiver<String>>,
}

impl Keeper {
    /// The script behind `within`, the words of a command that runs another; with arguments of its
    /// own, settings of the broker and an environment.
    pub(crate) fn spawn(
        within: &[String],
        arguments: &[&str],
        settings: &[(&str, &str)],
        environment: &[(&str, &str)],
    ) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("kafka/broker.sh");
        let words = within.iter().map(OsStr::new).chain([path.as_os_str()]);
        let mut words = words.chain(arguments.iter().map(OsStr::new));
        // a process group of its own: Ctrl-C at the terminal ends the tests, and they end it
        let spawned = Command::new(words.next().expect("the script at least"))
            .args(words)
            .args(
                settings
                    .iter()
                    .map(|(name, value)| format!("{name}={value}")),
            )
            .envs(environment.iter().copied())
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut script = spawned.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let orders = script.stdin.take();
        let output = BufReader::new(script.stdout.take().expect("piped above"));
        let (sender, answers) = channel();
        thread::spawn(move || {
            let lines = output.lines().map_while(Result::ok);
            lines
                .map(|line| sender.send(line))
                .take_while(Result::is_ok)
                .count()
        });
        Self {
            script,
            orders,
            answers: Mutex::new(answers),
        }
    }

    /// Where it is.
    pub(crate) fn start(&mut self) -> Ready {
        self.begin("start");
        self.started()
    }

    /// Where it is, after [`Keeper::begin`].
    pub(crate) fn started(&mut self) -> Ready {
        let answer = self.answer("start");
        let words: Vec<&str> = answer.splitn(4, ' ').collect();
        match words[..] {
            ["ready", address, pid, ref jmx_port @ ..] => Ready {
                bootstrap: address.to_owned(),
                pid: Some(pid.parse().expect("a process id")),
                jmx_port: jmx_port.first().map(|port| port.parse().expect("a port")),
            },
            ["failed", log, ref reason @ ..] => {
                panic!("{}", explain_failure(log, &reason.join(" ")))
            }
            _ => panic!("kafka/broker.sh answered {answer:?} to \"start\""),
        }
    }

    /// Carries out an order that has one good answer.
    pub(crate) fn order(&mut self, order: &str, expected: &str) {
        self.begin(order);
        let answer = self.answer(order);
        assert_eq!(
            answer, expected,
            "kafka/broker.sh answered otherwise to {order:?}"
        );
    }

    /// Copies its logs into a folder, a file for each start; `before` begins their names.
    pub(crate) fn copy_logs(&self, folder: &Path, before: &str) -> io::Result<()> {
        let cache = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/kafka/run");
        for entry in fs::read_dir(cache.join(self.script.id().to_string()))? {
            let path = entry?.path();
            if path.extension().is_some_and(|end| end == "log") {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                fs::copy(&path, folder.join(format!("{before}{name}")))?;
            }
        }
        Ok(())
    }

    /// Gives an order whose answer is awaited later.
    pub(crate) fn begin(&mut self, order: &str) {
        let orders = self.orders.as_mut().expect("taken only while dropping");
        // a script that is gone has said why on standard error, and gives no answer
        drop(writeln!(orders, "{order}"));
    }

    fn answer(&mut self, order: &str) -> String {
        let answers = self.answers.get_mut().expect("never locked");
        let answer = answers.recv_timeout(ANSWER_WITHIN);
        answer.unwrap_or_else(|error| {
            panic!("kafka/broker.sh did not answer {order:?} ({error}); see above")
        })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.orders.take());
        self.script
            .wait()
            .expect("the script was started and not waited for");
    }
}

fn explain_failure(log: &str, reason: &str) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let tail = &lines[lines.len().saturating_sub(30)..];
    format!("{reason}\nlast lines of {log}:\n{}", tail.join("\n"))
}
