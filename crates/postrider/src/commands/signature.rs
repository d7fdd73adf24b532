//! `postrider sign` and `postrider verify`: signatures by hand, for debugging.

use clap::Args;
use postrider_domain::{Scheme, Signing, SigningSecret, Timestamp};
use postrider_signing::{ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, TOLERANCE};
use serde::Serialize;

use crate::exit::Failure;
use crate::input;
use crate::output::Output;

/// The signature schemes that can be tried by hand.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum SchemeName {
    /// Standard Webhooks v1
    #[default]
    Standard,
}

#[derive(Args)]
struct Message {
    /// Signature scheme
    #[arg(long, env = "POSTRIDER_SCHEME", value_enum, default_value_t)]
    scheme: SchemeName,
    /// Signing secret: whsec_… or @FILE; repeat the flag for several (a roll), newest first
    #[arg(
        long,
        env = "POSTRIDER_SECRET",
        hide_env_values = true,
        required = true
    )]
    secret: Vec<String>,
    /// The webhook-id
    #[arg(long, env = "POSTRIDER_ID")]
    id: String,
    /// File with the body, byte for byte; - is standard input
    #[arg(long, env = "POSTRIDER_BODY", value_name = "FILE", default_value = "-")]
    body: String,
}

#[derive(Args)]
pub(crate) struct SignArguments {
    #[command(flatten)]
    message: Message,
    /// The webhook-timestamp, unix seconds; now if absent
    #[arg(long, env = "POSTRIDER_TIMESTAMP", value_name = "SECONDS")]
    timestamp: Option<u64>,
}

#[derive(Args)]
pub(crate) struct VerifyArguments {
    #[command(flatten)]
    message: Message,
    /// The webhook-timestamp as it was received
    #[arg(long, env = "POSTRIDER_TIMESTAMP", value_name = "SECONDS")]
    timestamp: String,
    /// The webhook-signature as it was received
    #[arg(long, env = "POSTRIDER_SIGNATURE", value_name = "HEADER")]
    signature: String,
}

#[derive(Serialize)]
struct Headers {
    #[serde(rename = "webhook-id")]
    id: String,
    #[serde(rename = "webhook-timestamp")]
    timestamp: String,
    #[serde(rename = "webhook-signature")]
    signature: Option<String>,
}

/// Prints the headers of a request, in a table as HTTP has them.
pub(crate) fn sign(arguments: &SignArguments, output: Output) -> Result<(), Failure> {
    let SignArguments { message, timestamp } = arguments;
    let secrets = message.secret.iter().map(|text| {
        Ok(SigningSecret {
            id: "".into(),
            key: input::secret(text)?,
            not_after: None,
        })
    });
    let signing = Signing {
        scheme: match message.scheme {
            SchemeName::Standard => Scheme::Standard,
        },
        secrets: secrets.collect::<Result<_, Failure>>()?,
    };
    let at = timestamp.map_or_else(input::now, Timestamp::from_secs);
    let body = input::read(&message.body)?;
    let headers =
        postrider_signing::sign_as(&signing, &*message.id, at, &body).map_err(Failure::usage)?;
    let headers = Headers {
        id: headers.id,
        timestamp: headers.timestamp,
        signature: headers.signature,
    };
    let lines = [
        (ID_HEADER, Some(&headers.id)),
        (TIMESTAMP_HEADER, Some(&headers.timestamp)),
        (SIGNATURE_HEADER, headers.signature.as_ref()),
    ];
    let lines: Vec<String> = lines
        .iter()
        .filter_map(|(name, value)| Some(format!("{name}: {}", (*value)?)))
        .collect();
    Ok(output.item(&headers, &lines.join("\n"))?)
}

#[derive(Serialize)]
struct Verdict {
    signature: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Exit 0 only when the signature holds and the timestamp is fresh. The signature is looked at
/// first, because a captured request is old by the time somebody debugs it.
pub(crate) fn verify(arguments: &VerifyArguments, output: Output) -> Result<(), Failure> {
    let message = &arguments.message;
    let SchemeName::Standard = message.scheme;
    let secrets = message.secret.iter().map(|text| input::secret(text));
    let secrets = secrets.collect::<Result<Vec<_>, Failure>>()?;
    let body = input::read(&message.body)?;
    let check = |tolerance| {
        postrider_signing::verify(
            &secrets,
            &message.id,
            &arguments.timestamp,
            &arguments.signature,
            &body,
            input::now(),
            tolerance,
        )
    };
    let (signature, error) = match check(std::time::Duration::MAX) {
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
