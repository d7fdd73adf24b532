//! Asking for one schema until there is an answer.
//!
//! Decides how often it is asked for, and when "not there" is believed: a producer chooses what is
//! asked for, so an answer about one schema alone must not keep its partition for ever.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use postrider_schema::{Kind, REFERENCES_MAX, Reference, Schema, SchemaId, TEXT_BYTES_MAX};

use crate::client::{Client, Failure, Kept, Referred};
use crate::{Answer, Event};

/// How long a schema that the registry does not have is looked for: a producer registers it before it
/// writes, but another replica of the registry may be asked, or one that just started.
pub(crate) const CONFIRM: Duration = Duration::from_secs(30);

const DELAY_MIN: Duration = Duration::from_millis(250);
const DELAY_MAX: Duration = Duration::from_secs(5);

/// Reports the answer, and every failure before. A schema that its reader panics at is answered too:
/// who waits for it would wait for ever.
pub(crate) async fn until_answered(client: Arc<Client>, id: SchemaId, reports: Sender<Event>) {
    let asking = tokio::spawn(asked(client, id, reports.clone()));
    let answer = match asking.await {
        Ok(answer) => answer,
        Err(_) => Some(Answer::None("it cannot be used: its reader failed".into())),
    };
    if let Some(answer) = answer {
        // Fails only when nobody waits for the answer any more.
        reports.send(Event::Answer(id, answer)).ok();
    }
}

/// Asks until there is an answer; `None` when nobody waits for it any more.
async fn asked(client: Arc<Client>, id: SchemaId, reports: Sender<Event>) -> Option<Answer> {
    let mut delay = DELAY_MIN;
    let mut missing_since = None;
    loop {
        match found(&client, id).await {
            Ok(answer) => return Some(answer),
            Err(Failure::Unusable(why)) => return Some(Answer::None(why.into())),
            Err(Failure::Missing(why)) => {
                let since = *missing_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= CONFIRM {
                    let why = format!("{why}, nor had it for {CONFIRM:?}");
                    return Some(Answer::None(why.into()));
                }
            }
            Err(Failure::Doubtful(doubt)) => {
                let since = *missing_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= CONFIRM && client.is_well(&doubt).await {
                    let why = format!(
                        "the registry answers otherwise, but to this for {CONFIRM:?} {}",
                        doubt.answer
                    );
                    return Some(Answer::None(why.into()));
                }
                reports.send(Event::Failed(doubt.answer)).ok()?;
            }
            Err(Failure::Failed(reason)) => {
                reports.send(Event::Failed(reason)).ok()?;
            }
        }
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(DELAY_MAX);
    }
}

/// The schema with everything it refers to.
async fn found(client: &Client, id: SchemaId) -> Result<Answer, Failure> {
    let root = client.schema(id).await?;
    let kind = match root.kind.as_deref() {
        None | Some("AVRO") => Kind::Avro,
        Some("PROTOBUF") => Kind::Protobuf,
        Some("JSON") => Kind::Json,
        Some(other) => {
            let known = "AVRO, PROTOBUF and JSON are read";
            return Err(Failure::Unusable(format!(
                "it is of type {other:?}; {known}"
            )));
        }
    };
    let references = match kind {
        // Values are not validated, so that nothing else is asked for.
        Kind::Json => Vec::new(),
        Kind::Avro | Kind::Protobuf => references(client, &root).await?,
    };
    match Schema::new(kind, &root.schema, &references) {
        Ok(schema) => {
            let cost = schema.cost();
            Ok(Answer::Schema(Arc::new(schema), cost))
        }
        Err(unusable) => Err(Failure::Unusable(format!("it cannot be used: {unusable}"))),
    }
}

/// Everything a schema refers to, itself and through others, each behind those it refers to.
async fn references(client: &Client, root: &Kept) -> Result<Vec<Reference>, Failure> {
    let own = root.references.clone().unwrap_or_default();
    let mut kept: BTreeMap<Referred, Kept> = BTreeMap::new();
    let mut wanted = own.clone();
    let mut bytes = root.schema.len();
    while let Some(referred) = wanted.pop() {
        if kept.contains_key(&referred) {
            continue;
        }
        if kept.len() == REFERENCES_MAX {
            return Err(Failure::Unusable(format!(
                "it refers to more than {REFERENCES_MAX} others"
            )));
        }
        let found = client.reference(&referred).await?;
        bytes += found.schema.len();
        if bytes > TEXT_BYTES_MAX {
            return Err(Failure::Unusable(format!(
                "it and what it refers to are more than {TEXT_BYTES_MAX} bytes"
            )));
        }
        wanted.extend(found.references.iter().flatten().cloned());
        kept.insert(referred, found);
    }
    let mut ordered = Vec::new();
    for referred in &own {
        order(referred, &mut kept, &mut ordered);
    }
    Ok(ordered)
}

/// Takes a reference and those below it, those first. As it is taken before, one that refers to
/// itself comes to an end; so deep as there are references.
fn order(referred: &Referred, kept: &mut BTreeMap<Referred, Kept>, ordered: &mut Vec<Reference>) {
    if let Some(found) = kept.remove(referred) {
        for below in found.references.iter().flatten() {
            order(below, kept, ordered);
        }
        ordered.push(Reference {
            name: referred.name.clone(),
            text: found.schema,
        });
    }
}
