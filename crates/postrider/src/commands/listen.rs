//! `postrider listen`: a receiver for a developer's machine.
//!
//! Decides how a request is shown. What the receiver does is `receiver`'s.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use clap::builder::PossibleValuesParser;
use postrider_domain::Scheme;
use postrider_egress::Egress;
use postrider_guard::Policy;
use postrider_signing::{VerifyingKey, format_key, generate_key};
use postrider_wire::endpoint::{scheme_named, scheme_names};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::exit::Failure;
use crate::input;
use crate::output::{Output, Tone, printable};
use crate::receiver::{Behaviour, Forward, Receiver, Seen, Verdict};

/// How long the program behind `--forward-to` may take.
const FORWARD_TIMEOUT: Duration = Duration::from_secs(60);

/// Characters of a body in a line for people.
const BODY_SHOWN: usize = 120;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Port on 127.0.0.1; 0 takes any free one
    #[arg(long, env = "POSTRIDER_PORT", default_value_t = 4242)]
    port: u16,
    /// Signature scheme
    #[arg(long, env = "POSTRIDER_SCHEME", value_parser = PossibleValuesParser::new(scheme_names()), default_value = "standard")]
    scheme: String,
    /// Signing secret or public key, or @FILE; a secret is made and printed if absent
    #[arg(long, env = "POSTRIDER_SECRET", hide_env_values = true)]
    secret: Option<String>,
    /// The URL that requests are sent to, if it is not this one (a tunnel): signed by rfc9421
    #[arg(long, env = "POSTRIDER_URL")]
    url: Option<String>,
    /// Answer this status
    #[arg(long, env = "POSTRIDER_STATUS", value_parser = clap::value_parser!(u16).range(200..600))]
    status: Option<u16>,
    /// Wait before answering
    #[arg(long, env = "POSTRIDER_DELAY", value_parser = input::duration, default_value = "0s")]
    delay: Duration,
    /// Fail the first N requests of each delivery, with --status or 500
    #[arg(long, env = "POSTRIDER_FAIL_FIRST", value_name = "N")]
    fail_first: Option<u32>,
    /// Pass requests on to this URL and answer what it answers
    #[arg(long, env = "POSTRIDER_FORWARD_TO", value_name = "URL")]
    forward_to: Option<String>,
}

#[derive(Serialize)]
struct Listening<'a> {
    url: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<&'a str>,
}

pub(crate) fn run(arguments: &Arguments, output: Output) -> Result<(), Failure> {
    let runtime = tokio::runtime::Runtime::new()
        .map_err(|e| Failure::no(format!("cannot start a runtime: {e}")))?;
    runtime.block_on(listen(arguments, output))
}

async fn listen(arguments: &Arguments, output: Output) -> Result<(), Failure> {
    let scheme = scheme_named(&arguments.scheme).expect("the parser knows the names");
    let (keys, made) = match &arguments.secret {
        _ if scheme == Scheme::None => (Vec::new(), None),
        Some(text) => {
            let key = input::secret(text, |text| VerifyingKey::parse(&scheme, text))?;
            (vec![key], None)
        }
        None => {
            let key = generate_key(&scheme, input::random::<32>()?);
            let verifying = VerifyingKey::of(&key).map_err(Failure::no)?;
            (vec![verifying], Some(format_key(&scheme, &key)))
        }
    };
    let behaviour = Behaviour {
        delay: arguments.delay,
        status: arguments.status,
        fail_first: arguments.fail_first,
        forward: arguments.forward_to.as_deref().map(forward).transpose()?,
        url: arguments.url.as_deref().map(public_url).transpose()?,
        ..Behaviour::healthy("/", scheme, keys)
    };
    // Room for one: the first line that cannot be written ends the command.
    let (broken_in, mut broken) = mpsc::channel(1);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, arguments.port));
    let receiver = Receiver::start(address, vec![behaviour], move |seen| {
        if let Err(error) = show(seen, output) {
            drop(broken_in.try_send(error));
        }
    })
    .await
    .map_err(|e| Failure::usage(format!("cannot listen on {address}: {e}; see --port")))?;
    let url = receiver.url();
    let mut line = format!("listening on {url}");
    if let Some(text) = &made {
        line += &format!("\nsecret {}", text.as_str());
    }
    let listening = Listening {
        url: &url,
        secret: made.as_ref().map(|text| text.as_str()),
    };
    output.item(&listening, &line)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::no)?;
    let ended = tokio::select! {
        Some(error) = broken.recv() => Err(error.into()),
        _ = tokio::signal::ctrl_c() => Ok(()),
        _ = terminate.recv() => Ok(()),
    };
    receiver.stop().await;
    ended
}

/// Without the path, which is that of each request.
fn public_url(text: &str) -> Result<String, Failure> {
    let url = postrider_guard::normalise(text);
    let url = url.map_err(|error| Failure::usage(format!("--url: {error}")))?;
    Ok(url[..postrider_guard::Position::BeforePath].to_owned())
}

/// A developer's own program: plain HTTP and private addresses are what this is for.
fn forward(url: &str) -> Result<Forward, Failure> {
    let policy = Policy {
        allow_http: true,
        ports: (1..=u16::MAX).collect(),
        allow_ranges: [
            "127.0.0.0/8",
            "::1/128",
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
        ]
        .iter()
        .filter_map(|range| range.parse().ok())
        .collect(),
    };
    policy
        .check_url(url)
        .map_err(|refusal| Failure::usage(format!("--forward-to: {refusal}")))?;
    let agent = concat!("Postrider/", env!("CARGO_PKG_VERSION"));
    Ok(Forward {
        egress: Egress::new(policy, agent).map_err(Failure::no)?,
        url: Arc::from(url),
        timeout: FORWARD_TIMEOUT,
    })
}

#[derive(Serialize)]
struct Row<'a> {
    at: String,
    path: &'a str,
    id: Option<&'a str>,
    attempt: Option<u32>,
    signature: String,
    status: u16,
    content_type: Option<&'a str>,
    bytes: usize,
    body: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    forward_error: Option<&'a str>,
}

fn show(seen: &Seen, output: Output) -> std::io::Result<()> {
    let row = Row {
        at: input::rfc3339(seen.at),
        path: &seen.path,
        id: seen.header(postrider_signing::ID_HEADER),
        attempt: seen
            .header("postrider-attempt")
            .and_then(|n| n.parse().ok()),
        signature: seen.verdict.to_string(),
        status: seen.status,
        content_type: seen.header("content-type"),
        bytes: seen.body.len(),
        body: String::from_utf8_lossy(&seen.body).into_owned(),
        forward_error: seen.forward_error.as_deref(),
    };
    output.item(&row, &line(&row, seen.verdict, output))
}

fn line(row: &Row<'_>, verdict: Verdict, output: Output) -> String {
    let tone = match verdict {
        Verdict::Valid => Tone::Good,
        Verdict::Unchecked => Tone::Faint,
        Verdict::Invalid(_) | Verdict::Unsigned => Tone::Bad,
    };
    let answer = if (200..300).contains(&row.status) {
        Tone::Good
    } else {
        Tone::Bad
    };
    let attempt = row
        .attempt
        .map_or_else(String::new, |n| format!(" attempt {n}"));
    let body: String = row.body.chars().take(BODY_SHOWN).collect();
    let mut line = format!(
        "{} {} {}{attempt}, signature {}, answered {}, {} bytes {}",
        row.at,
        printable(row.path),
        printable(row.id.unwrap_or("no webhook-id")),
        output.paint(tone, &row.signature),
        output.paint(answer, &row.status.to_string()),
        row.bytes,
        output.paint(Tone::Faint, &printable(&body)),
    );
    if let Some(error) = row.forward_error {
        line += &format!("\n  not passed on: {}", printable(error));
    }
    line
}
