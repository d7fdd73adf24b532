//! JSON Schemas of what Postrider reads and writes, made from the types.
//!
//! The files in `docs/reference/schemas` are these; `cargo run -p postrider-wire --example schemas`
//! writes them. They leave room for further fields, for fields may be added.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};

use crate::attempt::AttemptRecord;
use crate::dead_letter::DeadLetterSummary;
use crate::endpoint::EndpointForm;
use crate::endpoint_state::StateForm;

/// Every schema: file name, and content with a line end.
#[must_use]
pub fn all() -> [(&'static str, String); 4] {
    // What is read may leave fields out, what is written has them all.
    let read = SchemaSettings::draft2020_12;
    let written = || read().for_serialize();
    [
        ("endpoint.json", schema::<EndpointForm>(read())),
        ("attempt.json", schema::<AttemptRecord<'_>>(written())),
        (
            "dead-letter.json",
            schema::<DeadLetterSummary<'_>>(written()),
        ),
        ("endpoint-state.json", schema::<StateForm<'_>>(written())),
    ]
}

fn schema<T: JsonSchema>(settings: SchemaSettings) -> String {
    let schema = SchemaGenerator::new(settings).into_root_schema_for::<T>();
    format!("{:#}\n", schema.to_value())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_schemas_are_those_of_the_types() {
        let committed = [
            include_str!("../../../docs/reference/schemas/endpoint.json"),
            include_str!("../../../docs/reference/schemas/attempt.json"),
            include_str!("../../../docs/reference/schemas/dead-letter.json"),
            include_str!("../../../docs/reference/schemas/endpoint-state.json"),
        ];
        let parse = |text: &str| -> serde_json::Value { serde_json::from_str(text).unwrap() };
        for ((name, schema), committed) in all().iter().zip(committed) {
            assert!(
                parse(schema) == parse(committed),
                "{name} differs from its type; \
                 run: cargo run -p postrider-wire --example schemas"
            );
        }
    }
}
