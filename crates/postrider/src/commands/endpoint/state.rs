//! `postrider endpoint pause` and `resume`: deliveries wait, or go on.
//!
//! Decides which states may follow which. Needs no key file: what is sealed stays as it is. Leaves
//! what becomes of the deliveries that wait to the dispatcher.

use clap::Args;
use postrider_domain::{Endpoint, EndpointId, EndpointState};
use postrider_wire::endpoint;
use serde::Serialize;

use super::{Topic, no_endpoint};
use crate::cli::DryRun;
use crate::exit::Failure;
use crate::input;
use crate::output::Output;

#[derive(Args)]
pub(crate) struct One {
    /// The endpoint's id
    id: EndpointId,
    #[command(flatten)]
    dry: DryRun,
}

/// What is done to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Switch {
    Pause,
    Resume,
}

#[derive(Serialize)]
struct Switched {
    endpoint: String,
    state: &'static str,
    changed: bool,
    version: u64,
}

pub(super) fn run(
    switch: Switch,
    One { id, dry }: &One,
    topic: &Topic<'_>,
    output: Output,
) -> Result<(), Failure> {
    let mut endpoints = topic.read([id])?;
    let stored = endpoints.remove(id).ok_or_else(|| no_endpoint(id))?;
    let mut endpoint = stored.recorded.endpoint;
    let differs = switch.apply(&mut endpoint).map_err(Failure::no)?;
    if differs && !dry.dry_run {
        let (state, version) = (endpoint.state, endpoint.version);
        let sealing = topic.sealing()?;
        let value = endpoint::with_state(&stored.value, state, version, input::now(), sealing);
        let value = value.map_err(Failure::no)?;
        topic.write(&[topic.record(id, Some(value.into()))])?;
    }
    let line = match (differs, dry.dry_run) {
        (false, _) => format!("{id} is {} already", switch.state()),
        (true, false) => format!("{} {id}", switch.done()),
        (true, true) => format!("would {} {id}", switch.verb()),
    };
    let switched = Switched {
        endpoint: id.to_string(),
        state: switch.state(),
        changed: differs && !dry.dry_run,
        version: endpoint.version,
    };
    Ok(output.item(&switched, &line)?)
}

impl Switch {
    const fn verb(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
        }
    }

    const fn done(self) -> &'static str {
        match self {
            Self::Pause => "paused",
            Self::Resume => "resumed",
        }
    }

    /// The name of the state it leads to, as in files.
    const fn state(self) -> &'static str {
        match self {
            Self::Pause => "paused",
            Self::Resume => "active",
        }
    }

    /// Whether it changed anything; the version grows then. Of a disabled endpoint deliveries are
    /// neither made nor kept: neither pausing nor resuming it can mean what it says.
    fn apply(self, endpoint: &mut Endpoint) -> Result<bool, String> {
        let wanted = match self {
            Self::Pause => EndpointState::Paused,
            Self::Resume => EndpointState::Active,
        };
        match endpoint.state {
            EndpointState::Disabled => Err(format!(
                "{} is disabled: it gets no deliveries, and none wait for it; to {} it \
                 nevertheless, say state: {} in its file and apply it",
                endpoint.id,
                self.verb(),
                self.state()
            )),
            known if known == wanted => Ok(false),
            EndpointState::Active | EndpointState::Paused => {
                endpoint.state = wanted;
                endpoint.version = endpoint.version.saturating_add(1);
                Ok(true)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::topic::testing::wanted;
    use super::*;

    /// State and version after it, or why not.
    fn after(switch: Switch, state: EndpointState) -> Result<(bool, EndpointState, u64), String> {
        let mut endpoint = Endpoint {
            state,
            version: 7,
            ..wanted("https://a.example/")
        };
        let differs = switch.apply(&mut endpoint)?;
        Ok((differs, endpoint.state, endpoint.version))
    }

    #[test]
    fn pausing_and_resuming_make_a_version() {
        let (active, paused) = (EndpointState::Active, EndpointState::Paused);
        assert_eq!(after(Switch::Pause, active), Ok((true, paused, 8)));
        assert_eq!(after(Switch::Resume, paused), Ok((true, active, 8)));
    }

    #[test]
    fn what_is_so_already_stays_as_it_is() {
        let (active, paused) = (EndpointState::Active, EndpointState::Paused);
        assert_eq!(after(Switch::Pause, paused), Ok((false, paused, 7)));
        assert_eq!(after(Switch::Resume, active), Ok((false, active, 7)));
    }

    #[test]
    fn a_disabled_endpoint_says_what_to_do_instead() {
        for (switch, state) in [(Switch::Pause, "paused"), (Switch::Resume, "active")] {
            let refusal = after(switch, EndpointState::Disabled).unwrap_err();
            assert!(refusal.starts_with("ep_1 is disabled"), "{refusal}");
            assert!(
                refusal.contains(&format!("say state: {state}")),
                "{refusal}"
            );
        }
    }
}
