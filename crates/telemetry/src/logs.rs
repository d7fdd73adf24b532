//! Log lines, to standard error.
//!
//! Decides how they look and which filters are accepted. librdkafka's lines come along under the
//! target `librdkafka`. Leaves `NO_COLOR` and the terminal's nature to the caller.

use std::io;

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Why logging could not start.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter does not say what it means.
    #[error(
        "telemetry.log: found {filter:?} ({reason}), expected a level (off, error, warn, info, \
         debug, trace) or a filter such as \"info,librdkafka=debug\""
    )]
    Filter {
        /// What stands in the configuration.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Something else in this process logs already.
    #[error("logging was started twice")]
    Started,
}

/// Starts logging for the whole process; once. `color` only where a terminal shows it and nobody
/// asked for none.
///
/// # Errors
/// For a filter that [`check`] refuses, and for a second start.
pub fn init(filter: &str, format: Format, color: bool) -> Result<(), LogError> {
    subscriber(filter, format, color, io::stderr)?
        .try_init()
        .map_err(|_| LogError::Started)
}

/// Whether [`init`] would accept a filter.
///
/// # Errors
/// When it does not parse, or has a lone word that is no level: the syntax would take it for the
/// name of a module and silence everything else.
pub fn check(filter: &str) -> Result<(), LogError> {
    parse(filter).map(|_| ())
}

fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    let refuse = |reason: String| LogError::Filter {
        filter: filter.to_owned(),
        reason,
    };
    let lone_word = |part: &&str| !part.contains(['=', '[']);
    if filter.trim().is_empty() {
        return Err(refuse("nothing in it".to_owned()));
    }
    let typo = filter
        .split(',')
        .filter(lone_word)
        .find(|word| word.is_empty() || word.parse::<LevelFilter>().is_err());
    if let Some(word) = typo {
        return Err(refuse(format!("{word:?} is no level")));
    }
    EnvFilter::builder()
        .parse(filter)
        .map_err(|error| refuse(error.to_string()))
}

fn subscriber<W>(
    filter: &str,
    format: Format,
    color: bool,
    writer: W,
) -> Result<impl Subscriber + Send + Sync, LogError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = parse(filter)?;
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = match format {
        Format::Text => lines.with_ansi(color).boxed(),
        Format::Json => lines.json().flatten_event(true).with_ansi(false).boxed(),
    };
    Ok(tracing_subscriber::registry().with(lines).with(filter))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no writer panicked").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(filter: &str, format: Format, color: bool) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let made = subscriber(filter, format, color, move || writer.clone());
        tracing::subscriber::with_default(made.expect("a good filter"), || {
            tracing::info!(slice = 7, "slice owned");
            tracing::debug!(target: "librdkafka", "broker said hello");
            tracing::debug!("not asked for");
        });
        let bytes = lines.0.lock().expect("no writer panicked").clone();
        String::from_utf8(bytes).expect("log lines are UTF-8")
    }

    #[test]
    fn text_has_fields_and_color_only_when_wanted() {
        let plain = logged("info", Format::Text, false);
        assert!(plain.contains("slice owned slice=7"), "{plain}");
        assert!(!plain.contains('\u{1b}'));
        assert!(logged("info", Format::Text, true).contains('\u{1b}'));
        assert_eq!(plain.lines().count(), 1);
    }

    #[test]
    fn json_is_one_object_per_line() {
        let lines = logged("info,librdkafka=debug", Format::Json, true);
        assert_eq!(lines.lines().count(), 2, "{lines}");
        assert!(
            lines
                .lines()
                .all(|l| l.starts_with('{') && l.ends_with('}'))
        );
        assert!(lines.contains(r#""slice":7"#), "{lines}");
        assert!(lines.contains(r#""target":"librdkafka""#), "{lines}");
    }

    #[test]
    fn a_filter_that_would_silence_everything_is_refused() {
        for good in [
            "info",
            "OFF",
            "warn,librdkafka=debug",
            "info,postrider[attempt]=trace",
        ] {
            assert!(check(good).is_ok(), "{good:?}");
        }
        for bad in [
            "",
            " ",
            "inof",
            "info,verbose",
            "info,",
            "info, a=info",
            "info,a=loud",
        ] {
            let error = check(bad).expect_err(bad).to_string();
            assert!(error.contains(&format!("{bad:?}")), "{error}");
        }
    }
}
