//! What a template may not say, although the library would understand it.
//!
//! Decides which of the library's means are kept away from templates, so that its fuel bounds their
//! work. Fuel does not count everything: comparing two lists visits whatever is nested in them, a
//! list that is made of lists twice over and over again prints exponentially, a key is hashed whole.
//! So a template makes no lists of its own but written ones, which are short and flat, and those of
//! the data are compared by whether they are the same one (`data`).

use minijinja::machinery::{Instruction, Instructions, Token, tokenize};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;
use minijinja::{Environment, ErrorKind};

use crate::VARIABLES;
use crate::filters::HMAC;

/// Most items of a list that is written in a template.
const WRITTEN_MAX: usize = 100;

/// Most words and signs between two delimiters. The library follows a chain of filters or operators
/// by recursion, as deep as it is long.
const TAG_TOKENS_MAX: usize = 300;

/// Most `elif` of a template, each of which the library nests in the one before.
const ELIF_MAX: usize = 100;

/// A loop that calls itself, of the library's flags.
const RECURSIVE: u8 = 2;

/// Most mistakes that are named.
const MISTAKES_MAX: usize = 20;

/// What would take too much stack before there is a program, with its line.
pub(crate) fn too_long(source: &str) -> Option<String> {
    let (mut tokens, mut elifs) = (0, 0);
    // What is no token is the parser's to say.
    for (token, span) in tokenize(source, false, SyntaxConfig::default()).map_while(Result::ok) {
        match token {
            Token::TemplateData(_) | Token::VariableStart | Token::BlockStart => tokens = 0,
            Token::Ident("elif") => (tokens, elifs) = (tokens + 1, elifs + 1),
            _ => tokens += 1,
        }
        let line = span.start_line;
        if tokens > TAG_TOKENS_MAX {
            return Some(format!(
                "line {line}: more than {TAG_TOKENS_MAX} words and signs in one expression or \
                 statement: part it with set"
            ));
        }
        if elifs > ELIF_MAX {
            return Some(format!("line {line}: more than {ELIF_MAX} elif"));
        }
    }
    None
}

/// The mistakes of a program, each with its line, as `judge` finds them.
pub(crate) fn mistakes(
    program: &Instructions<'_>,
    judge: impl Fn(u32, &Instruction<'_>) -> Option<String>,
) -> Vec<String> {
    let mut mistakes = Vec::new();
    let instructions = (0..).map_while(|at| Some((at, program.get(at)?)));
    for (at, instruction) in instructions {
        let Some(mistake) = judge(at, instruction) else {
            continue;
        };
        let line = program.get_line(at).unwrap_or(1);
        let mistake = format!("line {line}: {mistake}");
        if !mistakes.contains(&mistake) {
            mistakes.push(mistake);
        }
        if mistakes.len() == MISTAKES_MAX {
            break;
        }
    }
    mistakes
}

/// What must not run.
pub(crate) fn forbidden(
    program: &Instructions<'_>,
    at: u32,
    instruction: &Instruction<'_>,
) -> Option<String> {
    let said = match instruction {
        Instruction::Add => "+ is not available: use plus for numbers (a | plus(b)) and ~ for text",
        Instruction::Mul => "* is not available: use times (a | times(b))",
        Instruction::Slice => "parts of a list or text ([a:b]) are not available",
        Instruction::BuildList(_)
        | Instruction::BuildMap(_)
        | Instruction::BuildTuple(_)
        | Instruction::UnpackLists(_)
        | Instruction::MergeKwargs(_) => {
            "lists and objects of values are not available: write the text they make"
        }
        Instruction::GetItem if constant(program, at).is_none() => {
            "a name or number in [ ] must be written out, such as data['a-b']; the fields of an \
             object are for name, value in data | items"
        }
        Instruction::LoadConst(value) if is_container(value.kind()) => {
            let is_short = value.len().is_some_and(|length| length <= WRITTEN_MAX);
            let is_flat = || {
                let mut items = value.try_iter().ok()?;
                Some(items.all(|item| !is_container(item.kind())))
            };
            if value.kind() != ValueKind::Map && is_short && is_flat() == Some(true) {
                return None;
            }
            "a written list has at most 100 texts and numbers, no lists or objects"
        }
        Instruction::PushLoop(flags) if flags & RECURSIVE != 0 => {
            "recursive loops are not available"
        }
        _ => return None,
    };
    Some(said.to_owned())
}

/// What would fail whatever the event is. `undeclared` are names that the template does not set,
/// `secrets` the ids that it may use.
pub(crate) fn unknown(
    environment: &Environment<'_>,
    program: &Instructions<'_>,
    (at, instruction): (u32, &Instruction<'_>),
    is_undeclared: impl Fn(&str) -> bool,
    is_secret: impl Fn(&str) -> bool,
) -> Option<String> {
    match instruction {
        Instruction::Lookup(name) if is_undeclared(name) && !VARIABLES.contains(name) => Some(
            format!("there is no {name:?}: a template sees event, data and webhook_id"),
        ),
        Instruction::CallFunction(name, _) => Some(format!(
            "there is no function {name:?}: use a filter, such as data | tojson"
        )),
        Instruction::CallMethod(name, _) if !matches!(*name, "cycle" | "changed") => Some(format!(
            "there is no method {name:?}: use a filter, such as data.id | upper"
        )),
        Instruction::ApplyFilter(name, ..) if !exists(environment, name, true) => {
            Some(format!("there is no filter {name:?}"))
        }
        Instruction::PerformTest(name, ..) if !exists(environment, name, false) => {
            Some(format!("there is no test {name:?}"))
        }
        Instruction::ApplyFilter(name, arguments, _) if *name == HMAC => {
            let id = constant(program, at).filter(|_| *arguments == Some(2));
            match id.map(|id| (id, id.as_str().is_some_and(is_secret))) {
                Some((_, true)) => None,
                Some((id, false)) => Some(format!(
                    "{HMAC} names the secret {id:?}, which signing.secrets does not have as a \
                     shared one"
                )),
                None => Some(format!(
                    "{HMAC} needs the id of a secret, written out: {HMAC}('s1')"
                )),
            }
        }
        _ => None,
    }
}

const fn is_container(kind: ValueKind) -> bool {
    matches!(
        kind,
        ValueKind::Seq | ValueKind::Map | ValueKind::Iterable | ValueKind::Plain
    )
}

/// The value that is written out as the last operand of the instruction at this place.
fn constant<'a>(program: &'a Instructions<'_>, at: u32) -> Option<&'a minijinja::Value> {
    match program.get(at.checked_sub(1)?)? {
        Instruction::LoadConst(value) if !is_container(value.kind()) => Some(value),
        _ => None,
    }
}

/// Whether there is such a filter, or test. The environment does not say, so it is asked by use.
fn exists(environment: &Environment<'_>, name: &str, is_filter: bool) -> bool {
    let mut state = environment.empty_state();
    let (result, unknown) = if is_filter {
        let result = state.apply_filter(name, &[]);
        (result.map(drop), ErrorKind::UnknownFilter)
    } else {
        let result = state.perform_test(name, &[]);
        (result.map(drop), ErrorKind::UnknownTest)
    };
    result.map_or_else(|error| error.kind() != unknown, |()| true)
}
