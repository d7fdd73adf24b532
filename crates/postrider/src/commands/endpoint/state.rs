//! `postrider endpoint pause` and `resume`: deliveries wait, or go on.
//!
//! Decides which states may follow which, and that what somebody else wrote at the same moment is
//! paused or resumed too. Needs no key file: what is sealed stays as it is. Leaves
//! what becomes of the deliveries that wait to the dispatcher.

use clap::Args;
use postrider_domain::{Endpoint, EndpointId, EndpointState};
use postrider_wire::endpoint;
use serde::Serialize;

use super::log::Log;
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
    let mut log = Log::read(topic, Some(topic.partition(id)))?;
    let stored = log.get(id).ok_or_else(|| no_endpoint(id))?;
    let mut endpoint = stored.recorded.endpoint.clone();
    let mut value = stored.value.clone();
    let differs = switch.apply(&mut endpoint).map_err(Failure::no)?;
    let mut due = differs && !dry.dry_run;
    while due {
        let (state, version) = (endpoint.state, endpoint.version);
        let sealing = topic.sealing()?;
        let switched = endpoint::with_state(&value, state, version, input::now(), sealing);
        let switched = switched.map_err(Failure::no)?;
        let mut covered = log.write(&[(id.clone(), Some(switched.into()))])?;
        due = false;
        if let Some(covered) = covered.pop() {
            let again = covered.theirs.as_deref().map(|theirs| {
                let read = endpoint::from_record(id.as_str().as_bytes(), theirs, topic.keys());
                let mut theirs = read.map_err(|invalid| invalid.to_string())?.endpoint;
                theirs.version = log.version(id).max(theirs.version);
                switch.apply(&mut theirs).map(|differs| (theirs, differs))
            });
            match (again, &covered.theirs) {
                (Some(Ok((theirs, true))), Some(bytes)) => {
                    endpoint = theirs;
                    value = bytes.clone();
                    due = true;
                }
                // Somebody else did the same, and perhaps more.
                (Some(Ok((theirs, false))), _) => {
                    endpoint = theirs;
                    log.put_all_back(vec![covered])?;
                    endpoint.version = log.version(id);
                }
                _ => {
                    log.put_all_back(vec![covered])?;
                    return Err(Failure::no(format!(
                        "{id} was changed or deleted at the same moment: that stays, it was not {}",
                        switch.done()
                    )));
                }
            }
        }
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
