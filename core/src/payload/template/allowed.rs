//! What a template may do: that whose cost the fuel knows.
//!
//! Fuel is charged for each step and for what is made, but a list or an object that is made costs as little as the
//! number of its elements. What is in them counts only when it is compared or written. So a few steps could make a
//! value that has the event's data in it a billion times, and comparing two of those would not end. Therefore no such
//! value is kept in a variable or given to a filter: it can only be written, which has a bound. And of two values that
//! are compared, one is known to be neither a list nor an object.

mod arguments;

use std::collections::BTreeMap;

use minijinja::machinery::ast::{BinOp, BinOpKind, Call, CallArg, Compare, CompareOpKind, Expr, Filter, Stmt, Test};
use minijinja::machinery::{Span, parse};
use minijinja::syntax::SyntaxConfig;

use super::{NAME, Refusal, said};

/// The deepest expression, and the most filters and slices: each may add to the cost of a step.
const MAX_DEPTH: usize = 100;
const MAX_WRAPPED: usize = 256;
/// The most filters that group: a group has its attribute beside its elements, which have it, too.
const MAX_GROUPED: usize = 4;
/// The most arguments of a filter or a function, and the most elements of a list that is joined: each may be as large as
/// the data.
const MAX_ARGUMENTS: usize = 16;
/// How often a template is gone through to find what kinds of values its variables have, before that is given up.
const PASSES: usize = 3;

/// The filters that make a text, a number or a boolean of anything.
const PLAIN_FILTERS: &str = "abs bool capitalize count e escape float format indent int join length lower replace \
                             round safe string sum title tojson trim upper";
/// Those of them that don't look at what is in a list.
const SCALAR_FILTERS: &str = "abs bool count float int length round";
/// The filters that take a value apart.
const PART_FILTERS: &str = "attr batch dictsort first groupby items last lines list map max min reject rejectattr \
                            reverse select selectattr slice sort split unique";
/// The tests, and those of them that compare.
const TESTS: &str = "boolean defined divisibleby endingwith escaped even false filter float int integer iterable lower \
                     mapping none number odd safe sequence startingwith string test true undefined upper";
const COMPARING_TESTS: &str = "!= < <= == > >= eq equalto ge greaterthan gt in le lessthan lt ne sameas";
/// What a loop tells of itself.
const OF_LOOP: &str = "depth depth0 first index index0 last length revindex revindex0";

/// What an expression results in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// A text, a number, a boolean, or nothing.
    Plain,
    /// Anything. If it is a list or an object, it is a part of the event's data, or stands as it is in the template.
    Any,
    /// A list or an object that is made of values, which may be in it many times.
    Made,
}

/// An expression that something is done with.
#[derive(Debug, Clone, Copy)]
struct Operand {
    kind: Kind,
    /// Whether it is a list that stands here, with plain values alone.
    is_plain_list: bool,
}

type Checked<T> = Result<T, Refusal>;

/// Checks a template.
///
/// # Errors
/// If it can't be read, or does what it may not: the line, and what is wrong.
pub(super) fn check(text: &str) -> Checked<()> {
    let template = parse(text, NAME, SyntaxConfig::default()).map_err(|error| said(&error))?;
    let mut checker = Checker::default();
    for _ in 0..PASSES {
        let known = checker.variables.clone();
        checker.template(&template)?;
        if checker.variables == known {
            return Ok(());
        }
    }
    checker.variables.values_mut().for_each(|kind| *kind = Kind::Any);
    checker.template(&template)
}

/// Looks at each expression once, so that what it takes grows with the text.
#[derive(Default)]
struct Checker<'t> {
    /// The variables that the template sets.
    variables: BTreeMap<&'t str, Kind>,
    depth: usize,
    wrapped: usize,
    grouped: usize,
}

fn refused<T>(span: Span, why: impl Into<String>) -> Checked<T> {
    Err((Some(usize::from(span.start_line)), why.into()))
}

impl<'t> Checker<'t> {
    fn template(&mut self, template: &Stmt<'t>) -> Checked<()> {
        (self.depth, self.wrapped, self.grouped) = (0, 0, 0);
        self.statement(template)
    }

    fn statements(&mut self, statements: &[Stmt<'t>]) -> Checked<()> {
        statements.iter().try_for_each(|statement| self.statement(statement))
    }

    fn statement(&mut self, statement: &Stmt<'t>) -> Checked<()> {
        match statement {
            Stmt::Template(template) => self.statements(&template.children),
            Stmt::EmitExpr(emit) => self.kind(&emit.expr).map(drop),
            Stmt::EmitRaw(_) => Ok(()),
            Stmt::ForLoop(block) => {
                let kind = self.elements(&block.iter)?;
                self.bind(&block.target, kind.max(Kind::Any))?;
                block.filter_expr.iter().try_for_each(|filter| self.kind(filter).map(drop))?;
                self.statements(&block.body)?;
                self.statements(&block.else_body)
            }
            Stmt::IfCond(block) => {
                self.kind(&block.expr)?;
                self.statements(&block.true_body)?;
                self.statements(&block.false_body)
            }
            Stmt::WithBlock(block) => {
                block.assignments.iter().try_for_each(|(target, value)| self.assign(target, value))?;
                self.statements(&block.body)
            }
            Stmt::Set(set) => self.assign(&set.target, &set.expr),
            Stmt::Do(block) => self.call(&block.call, block.span()).map(drop),
            Stmt::SetBlock(block) => {
                refused(block.span(), "set as a block is not supported: use {% set name = value %}")
            }
            Stmt::AutoEscape(block) => refused(block.span(), "the block autoescape is not supported"),
            Stmt::FilterBlock(block) => refused(block.span(), "the block filter is not supported"),
        }
    }

    fn assign(&mut self, target: &Expr<'t>, value: &Expr<'t>) -> Checked<()> {
        let kind = match target {
            Expr::List(_) => self.elements(value)?.max(Kind::Any),
            _ => self.kind(value)?,
        };
        self.bind(target, kind)
    }

    fn bind(&mut self, target: &Expr<'t>, kind: Kind) -> Checked<()> {
        let span = target.span();
        match target {
            _ if kind == Kind::Made => {
                let why = "a list or an object that is made of values can't be kept: write it where it is used";
                refused(span, why)
            }
            Expr::Var(variable) => {
                let known = self.variables.entry(variable.id).or_insert(kind);
                *known = kind.max(*known);
                Ok(())
            }
            Expr::List(targets) => targets.items.iter().try_for_each(|target| self.bind(target, kind)),
            Expr::GetAttr(_) if kind == Kind::Plain => Ok(()),
            _ => refused(span, "a namespace keeps no lists and no objects: use a filter such as string, int or float"),
        }
    }

    /// The kind of the elements of a value, which may be a list that stands here and is not kept.
    fn elements(&mut self, expression: &Expr<'t>) -> Checked<Kind> {
        match expression {
            Expr::List(list) => self.all(&list.items),
            Expr::Tuple(tuple) => self.all(&tuple.items),
            // Groups are gone through, not kept together.
            Expr::Filter(filter) if filter.name == "groupby" => self.kind(expression).map(|_| Kind::Any),
            expression => self.kind(expression),
        }
    }

    fn operand(&mut self, expression: &Expr<'t>) -> Checked<Operand> {
        match expression {
            Expr::List(list) => self.list(&list.items),
            Expr::Tuple(tuple) => self.list(&tuple.items),
            expression => Ok(Operand { kind: self.kind(expression)?, is_plain_list: false }),
        }
    }

    fn list(&mut self, items: &[Expr<'t>]) -> Checked<Operand> {
        let is_plain_list = self.all(items)? == Kind::Plain;
        Ok(Operand { kind: made_of(items), is_plain_list })
    }

    fn all(&mut self, expressions: &[Expr<'t>]) -> Checked<Kind> {
        expressions.iter().try_fold(Kind::Plain, |kind, expression| Ok(kind.max(self.kind(expression)?)))
    }

    fn kind(&mut self, expression: &Expr<'t>) -> Checked<Kind> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return refused(expression.span(), format!("the expression is nested more than {MAX_DEPTH} deep"));
        }
        let kind = self.of(expression)?;
        self.depth -= 1;
        Ok(kind)
    }

    fn of(&mut self, expression: &Expr<'t>) -> Checked<Kind> {
        Ok(match expression {
            Expr::Const(_) => Kind::Plain,
            Expr::Var(variable) => match variable.id {
                "data" | "loop" => Kind::Any,
                name => self.variables.get(name).copied().unwrap_or(Kind::Plain),
            },
            Expr::GetAttr(part) => {
                let kind = self.kind(&part.expr)?;
                if is_loop(&part.expr) && is_one(OF_LOOP, part.name) { Kind::Plain } else { kind }
            }
            Expr::GetItem(part) => {
                self.kind(&part.subscript_expr)?;
                self.kind(&part.expr)?
            }
            Expr::Slice(slice) => {
                self.wraps(slice.span())?;
                for bound in [&slice.start, &slice.stop, &slice.step].into_iter().flatten() {
                    self.kind(bound)?;
                }
                self.kind(&slice.expr)?
            }
            Expr::UnaryOp(operation) => {
                self.kind(&operation.expr)?;
                Kind::Plain
            }
            Expr::BinOp(operation) => self.operation(operation, operation.span())?,
            Expr::Compare(comparison) => self.comparison(comparison, comparison.span())?,
            Expr::IfExpr(choice) => {
                self.kind(&choice.test_expr)?;
                let kind = self.kind(&choice.true_expr)?;
                choice.false_expr.as_ref().map_or(Ok(Kind::Plain), |other| self.kind(other))?.max(kind)
            }
            Expr::Filter(filter) => self.filter(filter, filter.span())?,
            Expr::Test(test) => self.test(test, test.span())?,
            Expr::Call(call) => self.call(call, call.span())?,
            Expr::List(list) => self.list(&list.items)?.kind,
            Expr::Tuple(tuple) => self.list(&tuple.items)?.kind,
            Expr::Map(map) => self.list(&map.keys)?.kind.max(self.list(&map.values)?.kind),
        })
    }

    fn operation(&mut self, operation: &BinOp<'t>, span: Span) -> Checked<Kind> {
        let (left, right) = (self.operand(&operation.left)?, self.operand(&operation.right)?);
        let (least, most) = (left.kind.min(right.kind), left.kind.max(right.kind));
        Ok(match operation.op {
            BinOpKind::Eq | BinOpKind::Ne | BinOpKind::Lt | BinOpKind::Lte | BinOpKind::Gt | BinOpKind::Gte => {
                compared(left, right, false, span)?
            }
            BinOpKind::In => compared(left, right, true, span)?,
            BinOpKind::ScAnd | BinOpKind::ScOr => most,
            // Two lists become one that refers to both, and a list that is multiplied to itself.
            BinOpKind::Add if least > Kind::Plain => Kind::Made,
            BinOpKind::Mul if most > Kind::Plain => Kind::Made,
            BinOpKind::Concat if most == Kind::Made => {
                return refused(span, "~ takes no list or object that is made of values");
            }
            _ => Kind::Plain,
        })
    }

    fn comparison(&mut self, comparison: &Compare<'t>, span: Span) -> Checked<Kind> {
        let mut left = self.operand(&comparison.expr)?;
        for next in &comparison.ops {
            let right = self.operand(&next.expr)?;
            compared(left, right, matches!(next.op, CompareOpKind::In | CompareOpKind::NotIn), span)?;
            left = right;
        }
        Ok(Kind::Plain)
    }

    fn wraps(&mut self, span: Span) -> Checked<()> {
        self.wrapped += 1;
        if self.wrapped > MAX_WRAPPED {
            return refused(span, format!("a template has at most {MAX_WRAPPED} filters and slices"));
        }
        Ok(())
    }

    fn filter(&mut self, filter: &Filter<'t>, span: Span) -> Checked<Kind> {
        self.wraps(span)?;
        let name = filter.name;
        let input = match &filter.expr {
            // A short list that stands here is gone through once.
            Some(Expr::List(list)) if name == "join" && list.items.len() <= MAX_ARGUMENTS => self.all(&list.items)?,
            Some(expression) => self.kind(expression)?,
            None => Kind::Plain,
        };
        let arguments = self.arguments(&filter.args, span)?;
        let is_plain = is_one(PLAIN_FILTERS, name);
        if matches!(name, "default" | "d") {
            return Ok(kind_of(&arguments).max(input));
        }
        if !is_plain && !is_one(PART_FILTERS, name) {
            return refused(span, format!("there is no filter {name} here"));
        }
        if input == Kind::Made && !is_one(SCALAR_FILTERS, name) {
            return refused(span, format!("{name} takes no list or object that is made of values"));
        }
        if !arguments::takes(filter, &arguments) {
            return refused(span, format!("the filter {name} doesn't take these arguments"));
        }
        Ok(match name {
            _ if is_plain => Kind::Plain,
            "groupby" => {
                self.grouped += 1;
                if self.grouped > MAX_GROUPED {
                    return refused(span, format!("a template has groupby at most {MAX_GROUPED} times"));
                }
                Kind::Made
            }
            _ => input,
        })
    }

    fn test(&mut self, test: &Test<'t>, span: Span) -> Checked<Kind> {
        let left = self.operand(&test.expr)?;
        let arguments = self.arguments(&test.args, span)?;
        if is_one(COMPARING_TESTS, test.name) {
            let [right] = &arguments[..] else {
                return refused(span, format!("the test {} has one argument", test.name));
            };
            return compared(left, *right, test.name == "in", span);
        }
        if !is_one(TESTS, test.name) {
            return refused(span, format!("there is no test {} here", test.name));
        }
        if kind_of(&arguments) > Kind::Plain {
            return refused(span, format!("the test {} doesn't take these arguments", test.name));
        }
        Ok(Kind::Plain)
    }

    fn call(&mut self, call: &Call<'t>, span: Span) -> Checked<Kind> {
        let arguments = kind_of(&self.arguments(&call.args, span)?);
        match &call.expr {
            Expr::Var(function) if function.id == "range" && arguments < Kind::Made => Ok(Kind::Any),
            Expr::Var(function) if function.id == "namespace" && arguments == Kind::Plain => Ok(Kind::Any),
            Expr::Var(function) if function.id == "loop" && arguments < Kind::Made => Ok(Kind::Plain),
            Expr::GetAttr(method) if is_loop(&method.expr) && method.name == "cycle" => Ok(arguments),
            Expr::GetAttr(method) if is_loop(&method.expr) && method.name == "changed" && arguments == Kind::Plain => {
                Ok(Kind::Plain)
            }
            Expr::Var(function) => refused(span, format!("there is no function {} for these arguments", function.id)),
            _ => refused(span, "values have no functions: use a filter"),
        }
    }

    fn arguments(&mut self, arguments: &[CallArg<'t>], span: Span) -> Checked<Vec<Operand>> {
        if arguments.len() > MAX_ARGUMENTS {
            return refused(span, format!("there are more than {MAX_ARGUMENTS} arguments"));
        }
        let operand = |argument: &CallArg<'t>| match argument {
            CallArg::Pos(expression) | CallArg::Kwarg(_, expression) => self.operand(expression),
            CallArg::PosSplat(_) | CallArg::KwargSplat(_) => {
                refused(span, "* and ** before an argument are not supported")
            }
        };
        arguments.iter().map(operand).collect()
    }
}

/// A comparison; with `contains`, whether the right side has the left one in it.
fn compared(left: Operand, right: Operand, contains: bool, span: Span) -> Checked<Kind> {
    let is_plain = if contains { right.is_plain_list } else { right.kind == Kind::Plain };
    if left.kind == Kind::Plain || is_plain {
        return Ok(Kind::Plain);
    }
    refused(
        span,
        "both sides of a comparison may be lists or objects: use a filter such as string, int or float on one",
    )
}

fn is_one(names: &str, name: &str) -> bool {
    names.split(' ').any(|known| known == name)
}

fn is_loop(expression: &Expr<'_>) -> bool {
    matches!(expression, Expr::Var(variable) if variable.id == "loop")
}

fn kind_of(operands: &[Operand]) -> Kind {
    operands.iter().map(|operand| operand.kind).max().unwrap_or(Kind::Plain)
}

/// The kind of a list or an object with these elements.
fn made_of(elements: &[Expr<'_>]) -> Kind {
    if elements.iter().all(|element| matches!(element, Expr::Const(_))) { Kind::Any } else { Kind::Made }
}

#[cfg(test)]
mod tests;
