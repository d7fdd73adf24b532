//! Templates: how a merchant's own format is made.
//!
//! Decides what a template sees (the event, its data, the delivery's id), what it may cost, and
//! what of it can be found wrong before there is an event. It sees nothing that changes from one
//! attempt to the next. Leaves what it can call to `filters`, how values are written to `escape`.
//!
//! The bound on work is the library's fuel: an instruction costs one, and so do 64 bytes of any
//! string that is made, of what is written, and of what a filter reads. What would cost more than
//! is left is not begun. What fuel does not count `sandbox` keeps away, so that it bounds time and
//! memory both.

use std::error::Error as _;
use std::io;

use minijinja::machinery::get_compiled_template;
use minijinja::value::Value;
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior};
use postrider_domain::{Delivery, Signing, Template};
use serde_json::value::RawValue;

use crate::data::{Fields, value_of};
use crate::escape::Escape;
use crate::filters::{self, Fault};
use crate::{BODY_BYTES_MAX, Unrenderable, json, sandbox};

/// What one rendering may cost.
const FUEL: u64 = 100_000;

/// Loops in loops and conditions in them.
const RECURSION_MAX: usize = 64;

const NAME: &str = "template";

/// What a template sees.
pub(crate) const VARIABLES: [&str; 3] = ["event", "data", "webhook_id"];

/// Largest data a template is made of, in bytes. What fuel does not count takes as long as its
/// values are.
const DATA_BYTES_MAX: usize = 256 << 10;

/// Everything that can be found wrong in a template before there is an event, each with its line.
///
/// # Errors
/// The mistakes, at least one, at most 20: what is no template, what it may not say, what it sees
/// or calls that is not there, secrets it names that the endpoint does not have.
pub fn check(template: &Template, signing: &Signing) -> Result<(), Vec<String>> {
    let environment = environment(template, signing)?;
    let compiled = environment.get_template(NAME).expect("it was just added");
    let undeclared = compiled.undeclared_variables(false);
    let program = &get_compiled_template(&compiled).instructions;
    let secrets = filters::shared(signing);
    let mistakes = sandbox::mistakes(program, |at, instruction| {
        sandbox::unknown(
            &environment,
            program,
            (at, instruction),
            |name| undeclared.contains(name),
            |id| secrets.iter().any(|(name, _)| **name == *id),
        )
    });
    if mistakes.is_empty() {
        Ok(())
    } else {
        Err(mistakes)
    }
}

/// An environment with this one template, or why it must not run.
fn environment(
    template: &Template,
    signing: &Signing,
) -> Result<Environment<'static>, Vec<String>> {
    let source = template.source.to_string();
    if source.len() > Template::SOURCE_BYTES_MAX {
        return Err(vec![format!(
            "at most {} bytes, found {}",
            Template::SOURCE_BYTES_MAX,
            source.len()
        )]);
    }
    if let Some(mistake) = sandbox::too_long(&source) {
        return Err(vec![mistake]);
    }
    let mut environment = Environment::empty();
    filters::add(&mut environment, signing);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_recursion_limit(RECURSION_MAX);
    environment.set_fuel(Some(FUEL));
    let escape = Escape::of(&template.content_type);
    environment.set_formatter(move |out, state, value| escape.write(out, state, value));
    environment
        .add_template_owned(NAME, source)
        .map_err(|error| {
            let line = error.line().unwrap_or(1);
            let detail = error.detail().unwrap_or("is no template");
            vec![format!("line {line}: {detail}")]
        })?;
    let compiled = environment.get_template(NAME).expect("it was just added");
    let program = &get_compiled_template(&compiled).instructions;
    let mistakes = sandbox::mistakes(program, |at, instruction| {
        sandbox::forbidden(program, at, instruction)
    });
    drop(compiled);
    if mistakes.is_empty() {
        Ok(environment)
    } else {
        Err(mistakes)
    }
}

/// A template, read.
pub(crate) struct Compiled {
    environment: Environment<'static>,
    is_json: bool,
}

impl Compiled {
    pub(crate) fn new(template: &Template, signing: &Signing) -> Result<Self, Unrenderable> {
        let environment = environment(template, signing).map_err(|mistakes| {
            let first = mistakes.first().map_or("", String::as_str);
            Unrenderable::new(format!("the template cannot be used: {first}"))
        })?;
        Ok(Self {
            environment,
            is_json: Escape::of(&template.content_type) == Escape::Json,
        })
    }

    pub(crate) fn render(&self, delivery: &Delivery) -> Result<Vec<u8>, Unrenderable> {
        let context = context(delivery)?;
        let template = self.environment.get_template(NAME).expect("it was added");
        let mut body = Body(Vec::new());
        template
            .render_captured_to(context, &mut body)
            .map_err(|error| Unrenderable::new(told(&error)))?;
        if self.is_json
            && let Err(error) = serde_json::from_slice::<&RawValue>(&body.0)
        {
            let (line, column) = (error.line(), error.column());
            return Err(Unrenderable::new(format!(
                "what the template made is not JSON, from line {line}, column {column} of it: values \
                 have their quotes already"
            )));
        }
        Ok(body.0)
    }
}

/// What is written so far, within its bound.
struct Body(Vec<u8>);

impl io::Write for Body {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > BODY_BYTES_MAX {
            return Err(io::Error::other("too large"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An error as its message: the library's own words may repeat values of the event, so of those
/// only the kind is said.
fn told(error: &Error) -> String {
    let fault = error
        .source()
        .and_then(|source| source.downcast_ref::<Fault>());
    let said = match (error.kind(), fault) {
        (_, Some(fault)) => fault.to_string(),
        (ErrorKind::OutOfFuel, _) => "it does more work than a template may".to_owned(),
        (ErrorKind::WriteFailure, _) => format!("it makes more than {BODY_BYTES_MAX} bytes"),
        (ErrorKind::UndefinedError, _) => "it uses a value that this event does not have: ask \
            whether it `is defined`, or give it a `default`"
            .to_owned(),
        (kind, None) => kind.to_string(),
    };
    match error.line() {
        Some(line) => format!("the template fails in line {line}: {said}"),
        None => format!("the template fails: {said}"),
    }
}

/// What a template sees of a delivery. An attribute that the event does not have is not there.
fn context(delivery: &Delivery) -> Result<Value, Unrenderable> {
    let event = &delivery.event;
    let extensions = event
        .extensions
        .iter()
        .map(|(name, value)| (&**name, &**value));
    let named = [
        ("id", Some(&*event.id)),
        ("source", Some(&*event.source)),
        ("type", Some(&*event.event_type)),
        ("tenant", Some(event.tenant.as_str())),
        ("time", event.time.as_deref()),
        ("partitionkey", event.ordering_key.as_deref()),
        ("datacontenttype", event.content_type.as_deref()),
    ];
    let named = named
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    let attributes = extensions.chain(named);
    let attributes = attributes.map(|(name, value)| (name.into(), Value::from(value)));
    let attributes = Value::from_object(Fields::new(attributes));
    let data = match &*event.data {
        [] => Value::from(()),
        data if data.len() > DATA_BYTES_MAX => {
            return Err(Unrenderable::new(format!(
                "the data has {} bytes, a template is made of at most {DATA_BYTES_MAX}",
                data.len()
            )));
        }
        data => value_of(json::parse(data)?),
    };
    let values = [attributes, data, Value::from(delivery.id.to_string())];
    Ok(Value::from_pairs(VARIABLES.into_iter().zip(values)))
}
