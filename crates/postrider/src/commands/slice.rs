//! `postrider slice`: where everything about an endpoint is. Needs no broker: the slice follows
//! from the id alone. Which worker owns it, the dispatchers say.

use postrider_domain::EndpointId;
use serde::Serialize;

use crate::exit::Failure;
use crate::installation::Where;
use crate::output::Output;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The endpoint's id
    endpoint: EndpointId,
}

#[derive(Serialize)]
struct Row {
    endpoint: String,
    slice: u16,
    partition: u16,
    slices: u16,
}

pub(crate) fn run(arguments: &Arguments, at: &Where, output: Output) -> Result<(), Failure> {
    let slices = at.load()?.config.kafka.slices;
    let slice = slices.slice_of(&arguments.endpoint);
    Ok(output.one(&Row {
        endpoint: arguments.endpoint.to_string(),
        slice: slice.0,
        partition: slice.0,
        slices: slices.get(),
    })?)
}
