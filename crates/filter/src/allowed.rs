//! What a filter may use of CEL.
//!
//! Decides by lists of what is allowed, so that what the evaluator learns in a newer version is
//! refused until somebody has looked at its cost. Left out are regular expressions (compiled anew
//! at each evaluation, and larger than their text), `map`, `filter` and everything else that
//! builds lists and maps (they grow where nothing is counted), times and durations.

use cel::common::ast::{CallExpr, ComprehensionExpr, Expr, LiteralValue, SourceInfo, operators};
use cel::parser::Expression;

use crate::seen::VARIABLES;
use crate::source::{InvalidFilter, place};

/// Most nodes of an expression once its macros are written out.
const NODES_MAX: usize = 500;

/// Most nodes inside each other: the evaluator goes down by recursion, 3 KiB of stack for each, and
/// 45 KiB where it is not built for release.
const DEPTH_MAX: usize = 24;

/// Operators, with how many operands they take.
const OPERATORS: [(&str, usize); 18] = [
    (operators::CONDITIONAL, 3),
    (operators::LOGICAL_AND, 2),
    (operators::LOGICAL_OR, 2),
    (operators::LOGICAL_NOT, 1),
    (operators::NOT_STRICTLY_FALSE, 1),
    (operators::EQUALS, 2),
    (operators::NOT_EQUALS, 2),
    (operators::LESS, 2),
    (operators::LESS_EQUALS, 2),
    (operators::GREATER, 2),
    (operators::GREATER_EQUALS, 2),
    (operators::IN, 2),
    (operators::INDEX, 2),
    (operators::ADD, 2),
    (operators::SUBSTRACT, 2),
    (operators::MULTIPLY, 2),
    (operators::DIVIDE, 2),
    (operators::MODULO, 2),
];

/// Functions on one value: `size(data.items)`.
const FUNCTIONS: [&str; 5] = ["size", "int", "uint", "double", "string"];

/// Functions of a value, with how many arguments they take: `data.name.startsWith('A')`.
const MEMBERS: [(&str, usize); 4] = [
    ("size", 0),
    ("startsWith", 1),
    ("endsWith", 1),
    ("contains", 1),
];

/// Calls whose result is never true or false.
const NOT_BOOLEAN: [&str; 11] = [
    operators::ADD,
    operators::SUBSTRACT,
    operators::MULTIPLY,
    operators::DIVIDE,
    operators::MODULO,
    operators::NEGATE,
    "size",
    "int",
    "uint",
    "double",
    "string",
];

/// What an expression needs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Uses {
    pub(crate) data: bool,
    pub(crate) attributes: bool,
    pub(crate) nodes: usize,
    /// Of the largest loop, those inside it included.
    pub(crate) loop_nodes: usize,
    pub(crate) additions: usize,
}

/// What a checked expression needs, or the first thing in it that filters may not use.
pub(crate) fn check(
    root: &Expression,
    source: &str,
    places: &SourceInfo,
) -> Result<Uses, InvalidFilter> {
    let mut walk = Walk {
        source,
        places,
        names: Vec::new(),
        uses: Uses::default(),
        at: root.id,
    };
    walk.visit(root, 0)?;
    if !may_be_boolean(root) {
        walk.at = root.id;
        return Err(walk.refuse("comes to a number or text; a filter must come to true or false"));
    }
    Ok(walk.uses)
}

struct Walk<'a> {
    source: &'a str,
    places: &'a SourceInfo,
    /// Names that loops around this node bind, with their accumulators.
    names: Vec<&'a str>,
    uses: Uses,
    /// The last node that has a place.
    at: u64,
}

impl<'a> Walk<'a> {
    fn visit(&mut self, node: &'a Expression, depth: usize) -> Result<(), InvalidFilter> {
        if self.places.offset_for(node.id).is_some() {
            self.at = node.id;
        }
        self.uses.nodes += 1;
        if self.uses.nodes > NODES_MAX || depth > DEPTH_MAX {
            return Err(InvalidFilter::whole(format!(
                "is too large: at most {NODES_MAX} operators, names and values, at most \
                 {DEPTH_MAX} inside each other"
            )));
        }
        let depth = depth + 1;
        match &node.expr {
            Expr::Literal(LiteralValue::Bytes(_)) => Err(self.refuse("data has no bytes values")),
            Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => self.name(name),
            Expr::Select(select) => self.visit(&select.operand, depth),
            Expr::Call(call) => self.call(call, depth),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension, depth),
            Expr::List(_) => {
                Err(self.refuse("a list may only stand behind in: data.currency in ['EUR', 'USD']"))
            }
            Expr::Map(_) | Expr::Struct(_) => {
                Err(self.refuse("maps cannot be written in a filter; compare their members"))
            }
            Expr::Unspecified => Err(InvalidFilter::unreadable()),
        }
    }

    fn name(&mut self, name: &str) -> Result<(), InvalidFilter> {
        if self.names.contains(&name) {
            return Ok(());
        }
        match name {
            "data" => self.uses.data = true,
            "attributes" => self.uses.attributes = true,
            _ if VARIABLES.contains(&name) => {}
            _ => {
                return Err(self.refuse(format!(
                    "there is no {:?}; there are {} (members of the event's data begin with \
                     data., texts stand in quotes)",
                    clip(name),
                    VARIABLES.join(", ")
                )));
            }
        }
        Ok(())
    }

    fn call(&mut self, call: &'a CallExpr, depth: usize) -> Result<(), InvalidFilter> {
        let (name, count) = (call.func_name.as_str(), call.args.len());
        let allowed = match &call.target {
            Some(_) => MEMBERS.contains(&(name, count)),
            None => {
                OPERATORS.contains(&(name, count))
                    || (count == 1 && (name == operators::NEGATE || FUNCTIONS.contains(&name)))
            }
        };
        if !allowed {
            return Err(self.refuse(match name {
                "matches" => "there are no regular expressions in filters; use startsWith, \
                              endsWith or contains"
                    .to_owned(),
                "has" | "all" | "exists" | "exists_one" | "map" | "filter" => {
                    format!("{name} is not written like this; see docs/reference/filters.md")
                }
                _ => format!(
                    "{} with {count} arguments is not available in filters; there are {} and \
                     {} of a value, and startsWith, endsWith and contains of a text",
                    clip(name),
                    FUNCTIONS.join(", "),
                    "has, all, exists, exists_one"
                ),
            }));
        }
        self.uses.additions += usize::from(name == operators::ADD);
        if let Some(target) = &call.target {
            self.visit(target, depth)?;
        }
        for (n, argument) in call.args.iter().enumerate() {
            match &argument.expr {
                Expr::List(list) if name == operators::IN && n == 1 => {
                    self.uses.nodes += 1;
                    for element in &list.elements {
                        self.visit(element, depth + 1)?;
                    }
                }
                _ => self.visit(argument, depth)?,
            }
        }
        Ok(())
    }

    fn comprehension(
        &mut self,
        loops: &'a ComprehensionExpr,
        depth: usize,
    ) -> Result<(), InvalidFilter> {
        if matches!(loops.accu_init.expr, Expr::List(_) | Expr::Map(_)) {
            return Err(self.refuse(
                "map and filter are not available in filters; use all, exists or exists_one",
            ));
        }
        if VARIABLES.contains(&loops.iter_var.as_str()) {
            let name = loops.iter_var.as_str();
            return Err(self.refuse(format!("{name:?} has a meaning; use another name")));
        }
        self.visit(&loops.iter_range, depth)?;
        let outside = self.names.len();
        let before = self.uses.nodes;
        let second = loops.iter_var2.as_deref();
        self.names.extend(second);
        self.names
            .extend([loops.iter_var.as_str(), loops.accu_var.as_str()]);
        for part in [
            &loops.accu_init,
            &loops.loop_cond,
            &loops.loop_step,
            &loops.result,
        ] {
            self.visit(part, depth)?;
        }
        self.names.truncate(outside);
        self.uses.loop_nodes = self.uses.loop_nodes.max(self.uses.nodes - before);
        Ok(())
    }

    fn refuse(&self, message: impl Into<String>) -> InvalidFilter {
        let offset = self.places.offset_for(self.at);
        let offset = offset.and_then(|(start, _)| usize::try_from(start).ok());
        InvalidFilter {
            place: offset.map(|offset| place(self.source, offset)),
            message: message.into(),
        }
    }
}

/// Enough of a name to find it by.
fn clip(name: &str) -> &str {
    &name[..name.floor_char_boundary(60)]
}

/// `false` only where it is certain.
fn may_be_boolean(node: &Expression) -> bool {
    match &node.expr {
        Expr::Literal(literal) => matches!(literal, LiteralValue::Boolean(_)),
        Expr::Ident(name) => name == "data",
        Expr::Call(call) if call.func_name == operators::CONDITIONAL => {
            call.args[1..].iter().all(may_be_boolean)
        }
        Expr::Call(call) => !NOT_BOOLEAN.contains(&call.func_name.as_str()),
        _ => true,
    }
}
