//! Flags of `postrider run` that only a test build has: where it is to be killed, and what it gets
//! wrong on purpose (ADR 0039).

use postrider_points::{FAULTS, Named, POINTS};
use tracing::warn;

#[derive(clap::Args, Clone, Copy, Debug)]
pub(crate) struct TestBuild {
    /// The point where this process kills itself, and at which arrival there: NAME=N
    #[arg(long, env = "POSTRIDER_KILL_AT", value_name = "NAME=N", value_parser = kill_at)]
    kill_at: Option<KillAt>,
    /// What this process gets wrong
    #[arg(long, env = "POSTRIDER_FAULT", value_name = "NAME", value_parser = fault)]
    fault: Option<Fault>,
}

#[derive(Clone, Copy, Debug)]
struct KillAt {
    place: usize,
    nth: u32,
}

#[derive(Clone, Copy, Debug)]
struct Fault(usize);

impl TestBuild {
    /// Arms what was asked for.
    pub(crate) fn arm(self) {
        warn!(
            "a test build: it can be told to kill itself and to work wrongly; deliver nothing with it"
        );
        if let Some(KillAt { place, nth }) = self.kill_at {
            postrider_points::arm(place, nth);
            warn!(
                at = POINTS[place].name,
                nth, "this process will kill itself"
            );
        }
        if let Some(Fault(place)) = self.fault {
            postrider_points::break_it(place);
            let Named { name, what } = FAULTS[place];
            warn!(name, what, "this process works wrongly");
        }
    }
}

fn kill_at(text: &str) -> Result<KillAt, String> {
    let (name, nth) = text.split_once('=').ok_or("expected NAME=N")?;
    let nth = nth.parse().ok().filter(|nth| *nth > 0);
    let nth = nth.ok_or("N is a number, from 1")?;
    let place = find(POINTS, name)?;
    Ok(KillAt { place, nth })
}

fn fault(name: &str) -> Result<Fault, String> {
    find(FAULTS, name).map(Fault)
}

fn find(list: &[Named], name: &str) -> Result<usize, String> {
    let found = list.iter().position(|named| named.name == name);
    found.ok_or_else(|| {
        let names: Vec<&str> = list.iter().map(|named| named.name).collect();
        format!("there are: {}", names.join(", "))
    })
}
