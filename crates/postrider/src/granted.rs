//! Whether the brokers grant the dispatchers' group what the configuration counts on.
//!
//! Decides that a dispatcher does not start with a session longer, or a heartbeat shorter, than
//! granted: it would count on slices that others own already. That the brokers do not say is no
//! reason not to start. Leaves how they are asked to `kafka`, what rests on it to `engine`.

use std::time::Duration;

use postrider_config::{Dispatcher, Ownership};
use postrider_kafka::{ClientSettings, Granted, granted};
use tracing::warn;

use crate::exit::Failure;
use crate::installation::Installation;

/// How long the brokers have to say it.
const WAIT: Duration = Duration::from_secs(5);

impl Installation {
    /// Refuses a session or a heartbeat that the brokers do not grant.
    pub(crate) fn check_granted(&self, settings: &ClientSettings) -> Result<(), Failure> {
        let dispatcher = &self.config.dispatcher;
        // Under the classic protocol a member asks for its session, and is refused or has it.
        if dispatcher.ownership == Ownership::Classic {
            return Ok(());
        }
        let group = self.topics.dispatcher_group();
        let Some(granted) = granted(settings, group, WAIT) else {
            let (session, heartbeat) = (dispatcher.session, dispatcher.heartbeat);
            warn!(
                %group,
                ?session,
                ?heartbeat,
                "the brokers do not say what session and heartbeat they grant the group (is \
                 DescribeConfigs on it allowed?): not checked against dispatcher.session and \
                 dispatcher.heartbeat, compare them yourself"
            );
            return Ok(());
        };
        let mistakes = mistakes(dispatcher, granted);
        if mistakes.is_empty() {
            return Ok(());
        }
        Err(self.refuse(Failure::usage(format!(
            "a worker would count on slices that the group {group} has given to others:{}",
            mistakes.concat()
        ))))
    }
}

/// What is counted on and not granted, each on a line of its own.
fn mistakes(wanted: &Dispatcher, granted: Granted) -> Vec<String> {
    let mut mistakes = Vec::new();
    if wanted.session > granted.session {
        mistakes.push(format!(
            "\n  dispatcher.session is {:?}, the brokers grant {:?}: make it shorter, or lengthen \
             the group's consumer.session.timeout.ms or the brokers' \
             group.consumer.session.timeout.ms first",
            wanted.session, granted.session
        ));
    }
    if wanted.heartbeat < granted.heartbeat {
        mistakes.push(format!(
            "\n  dispatcher.heartbeat is {:?}, the brokers grant {:?}: make it longer, or shorten \
             the group's consumer.heartbeat.interval.ms or the brokers' \
             group.consumer.heartbeat.interval.ms first",
            wanted.heartbeat, granted.heartbeat
        ));
    }
    mistakes
}

#[cfg(test)]
mod tests {
    use postrider_config::Config;

    use super::*;

    #[test]
    fn a_shorter_session_and_a_longer_heartbeat_than_granted_are_safe() {
        let wanted = Config::default().dispatcher;
        let named = |session, heartbeat| {
            let granted = Granted { session, heartbeat };
            let of = |key| mistakes(&wanted, granted).iter().any(|m| m.contains(key));
            (of("dispatcher.session is"), of("dispatcher.heartbeat is"))
        };
        let (session, heartbeat) = (wanted.session, wanted.heartbeat);
        let little = Duration::from_millis(1);
        assert_eq!(named(session, heartbeat), (false, false));
        assert_eq!(named(session + little, heartbeat - little), (false, false));
        assert_eq!(named(session - little, heartbeat), (true, false));
        assert_eq!(named(session, heartbeat + little), (false, true));
        assert_eq!(named(session - little, heartbeat + little), (true, true));
    }
}
