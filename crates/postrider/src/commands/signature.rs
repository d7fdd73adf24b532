//! `postrider sign` and `postrider verify`: signatures by hand, for debugging.
//!
//! Decides how a request is given on the command line. Leaves the schemes to `signing`.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use clap::builder::PossibleValuesParser;
use postrider_domain::{Jws, OpenBanking, Scheme, Signing, SigningSecret, Timestamp};
use postrider_signing::{
    ID_HEADER, Message, Received, TIMESTAMP_HEADER, TOLERANCE, VerifyingKey, parse_key,
};
use postrider_wire::endpoint::{scheme_named, scheme_names};
use serde::Serialize;

use crate::exit::Failure;
use crate::input;
use crate::output::Output;

#[derive(Args)]
struct Signer {
    /// Signature scheme
    #[arg(long, env = "POSTRIDER_SCHEME", value_parser = PossibleValuesParser::new(scheme_names()), default_value = "standard")]
    scheme: String,
    /// Where the request goes to: signed by rfc9421
    #[arg(long, env = "POSTRIDER_URL")]
    url: Option<String>,
    /// File with the body, byte for byte; - is standard input
    #[arg(long, env = "POSTRIDER_BODY", value_name = "FILE", default_value = "-")]
    body: String,
}

impl Signer {
    fn scheme(&self) -> Result<Scheme, Failure> {
        let scheme = scheme_named(&self.scheme).expect("the parser knows the names");
        if scheme == Scheme::Rfc9421 && self.url.is_none() {
            return Err(Failure::usage("--scheme rfc9421 signs the URL: give --url"));
        }
        Ok(scheme)
    }

    /// In the form in which it is sent.
    fn url(&self) -> Result<String, Failure> {
        let Some(text) = &self.url else {
            return Ok(String::new());
        };
        let url = postrider_guard::normalise(text);
        let url = url.map_err(|error| Failure::usage(format!("--url: {error}")))?;
        Ok(url.into())
    }
}

#[derive(Args)]
pub(crate) struct SignArguments {
    #[command(flatten)]
    signer: Signer,
    /// Signing secret or @FILE; repeat the flag for several (a roll), newest first
    #[arg(
        long,
        env = "POSTRIDER_SECRET",
        hide_env_values = true,
        required = true
    )]
    secret: Vec<String>,
    /// What names the secret in the signature, keyid of rfc9421 and kid of jws: the id that the
    /// endpoint has it under; once for each secret
    #[arg(long, env = "POSTRIDER_KEY_ID", value_name = "ID")]
    key_id: Vec<String>,
    /// The webhook-id
    #[arg(long, env = "POSTRIDER_ID")]
    id: String,
    /// The webhook-timestamp, unix seconds; now if absent
    #[arg(long, env = "POSTRIDER_TIMESTAMP", value_name = "SECONDS")]
    timestamp: Option<u64>,
    /// The content-type: signed by rfc9421
    #[arg(
        long,
        env = "POSTRIDER_CONTENT_TYPE",
        default_value = "application/json"
    )]
    content_type: String,
    /// With --scheme jws, whether the body is encoded when it is signed
    #[arg(long, env = "POSTRIDER_B64", action = clap::ArgAction::Set)]
    b64: Option<bool>,
    /// With --scheme jws, Open Banking's issuer (with --trust-anchor)
    #[arg(long, env = "POSTRIDER_ISSUER", requires = "trust_anchor")]
    issuer: Option<String>,
    /// With --scheme jws, Open Banking's trust anchor (with --issuer)
    #[arg(long, env = "POSTRIDER_TRUST_ANCHOR", requires = "issuer")]
    trust_anchor: Option<String>,
}

impl SignArguments {
    fn signing(&self) -> Result<Signing, Failure> {
        let mut scheme = self.signer.scheme()?;
        self.check_key_ids()?;
        let parts = self.issuer.as_deref().zip(self.trust_anchor.as_deref());
        if let Scheme::Jws(form) = &mut scheme {
            *form = Jws {
                encoded: self.b64.unwrap_or(true),
                open_banking: parts.map(|(issuer, trust_anchor)| OpenBanking {
                    issuer: issuer.into(),
                    trust_anchor: trust_anchor.into(),
                }),
            };
        }
        if !matches!(scheme, Scheme::Jws(_)) && (self.b64.is_some() || parts.is_some()) {
            let reason = "--b64, --issuer and --trust-anchor are for --scheme jws";
            return Err(Failure::usage(reason));
        }
        let secrets = self.secret.iter().enumerate().map(|(n, text)| {
            Ok(SigningSecret {
                id: self.key_id.get(n).map_or("", |id| id).into(),
                key: input::secret(text, |text| parse_key(&scheme, text))?,
                not_after: None,
            })
        });
        let secrets = secrets.collect::<Result<_, Failure>>()?;
        Ok(Signing { scheme, secrets })
    }
}

impl SignArguments {
    fn check_key_ids(&self) -> Result<(), Failure> {
        let clean = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        let is_id = |id: &String| (1..=64).contains(&id.len()) && id.bytes().all(clean);
        if !self.key_id.iter().all(is_id) {
            return Err(Failure::usage(
                "--key-id: expected 1 to 64 of A-Z a-z 0-9 _ -",
            ));
        }
        if !self.key_id.is_empty() && self.key_id.len() != self.secret.len() {
            return Err(Failure::usage(
                "--key-id: give one for each --secret, or none",
            ));
        }
        Ok(())
    }
}

/// Prints the headers of a request that a receiver verifies by, in a table as HTTP has them.
pub(crate) fn sign(arguments: &SignArguments, output: Output) -> Result<(), Failure> {
    let signing = arguments.signing()?;
    let at = arguments
        .timestamp
        .map_or_else(input::now, Timestamp::from_secs);
    let body = input::read(&arguments.signer.body)?;
    let url = arguments.signer.url()?;
    let message = Message {
        id: &arguments.id,
        at,
        url: &url,
        content_type: arguments.content_type.trim(),
        body: &body,
    };
    let signatures = postrider_signing::sign(&signing, &message).map_err(Failure::usage)?;
    let timestamp = at.as_secs().to_string();
    let mut headers = vec![
        ("content-type", arguments.content_type.as_str()),
        (ID_HEADER, &arguments.id),
        (TIMESTAMP_HEADER, &timestamp),
    ];
    headers.extend(
        signatures
            .iter()
            .map(|(name, value)| (*name, value.as_str())),
    );
    let lines: Vec<String> = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    let headers: BTreeMap<&str, &str> = headers.into_iter().collect();
    Ok(output.item(&headers, &lines.join("\n"))?)
}

#[derive(Args)]
pub(crate) struct VerifyArguments {
    #[command(flatten)]
    signer: Signer,
    /// Signing secret or public key, or @FILE; repeat the flag for several
    #[arg(
        long,
        env = "POSTRIDER_SECRET",
        hide_env_values = true,
        required = true
    )]
    secret: Vec<String>,
    /// A header as it was received, `NAME: VALUE`, or @FILE with one on each line; repeat the flag
    /// for several
    #[arg(short = 'H', long, env = "POSTRIDER_HEADER", required = true)]
    header: Vec<String>,
}

#[derive(Serialize)]
struct Verdict {
    signature: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Exit 0 only when the signature holds and is fresh. The signature is looked at first, because a
/// captured request is old by the time somebody debugs it.
pub(crate) fn verify(arguments: &VerifyArguments, output: Output) -> Result<(), Failure> {
    let scheme = arguments.signer.scheme()?;
    if scheme == Scheme::None {
        return Err(Failure::usage(
            "--scheme none signs nothing: there is nothing to verify",
        ));
    }
    let url = arguments.signer.url()?;
    let keys = arguments.secret.iter();
    let keys = keys.map(|text| input::secret(text, |text| VerifyingKey::parse(&scheme, text)));
    let keys = keys.collect::<Result<Vec<_>, Failure>>()?;
    let lines = header_lines(&arguments.header)?;
    let headers = headers(&lines)?;
    let body = input::read(&arguments.signer.body)?;
    let received = Received {
        url: &url,
        headers: &headers,
        body: &body,
    };
    let now = input::now();
    let check = |tolerance| postrider_signing::verify(&scheme, &keys, &received, now, tolerance);
    let (signature, error) = match check(Duration::MAX) {
        Err(error) => ("invalid", Some(error)),
        Ok(()) => match check(TOLERANCE) {
            Err(error) => ("stale", Some(error)),
            Ok(()) => ("valid", None),
        },
    };
    let reason = error.map(|error| error.to_string());
    let line = match (signature, &reason) {
        ("stale", Some(reason)) => format!("the signature matches, but {reason}"),
        (_, Some(reason)) => format!("the signature does not hold: {reason}"),
        (_, None) => "the signature is valid".to_owned(),
    };
    if reason.is_none() {
        return Ok(output.item(&Verdict { signature, reason }, &line)?);
    }
    if output.format() != crate::output::Format::Table {
        output.item(&Verdict { signature, reason }, &line)?;
    }
    Err(Failure::no(line))
}

/// What is given, files read.
fn header_lines(given: &[String]) -> Result<Vec<String>, Failure> {
    let mut lines = Vec::new();
    for text in given {
        let Some(path) = text.strip_prefix('@') else {
            lines.push(text.clone());
            continue;
        };
        let file = String::from_utf8(input::read(path)?)
            .map_err(|_| Failure::usage(format!("--header: {path} is not text")))?;
        let written = file.lines().filter(|line| !line.trim().is_empty());
        lines.extend(written.map(str::to_owned));
    }
    Ok(lines)
}

fn headers(lines: &[String]) -> Result<Vec<(&str, &str)>, Failure> {
    let mut headers = Vec::with_capacity(lines.len());
    for (n, line) in (1..).zip(lines) {
        let Some((name, value)) = line.split_once(':') else {
            // Not what it is: it may be a secret, given in the wrong place.
            let reason = format!("--header: number {n} is not NAME: VALUE");
            return Err(Failure::usage(reason));
        };
        headers.push((name.trim(), value.trim()));
    }
    Ok(headers)
}
