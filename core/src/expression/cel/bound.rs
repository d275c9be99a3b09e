//! The cost of an evaluation, from the syntax tree and the size of the variables. See the same of JMESPath.

use ::cel::common::ast::{CallExpr, ComprehensionExpr, Expr, IdedExpr, LiteralValue, operators};

use super::super::cel_context::MEMBER;
use super::super::cost::{Amount, Bound, Cost, STEPS, Size};
use super::tree::parts;

/// The cost of a node, and of a call besides what the function does.
const NODE: f64 = 60.0;
const CALL: f64 = 120.0;
/// The cost for each byte and each value that a function or an operator goes through, or that is copied.
const BYTE: f64 = 3.0;
const VALUE: f64 = 40.0;
/// The cost for each byte of a text that is copied, and not looked at.
const COPIED: f64 = 0.25;

pub(super) fn cost(expression: &IdedExpr, size: Size) -> Cost {
    of_bound(expression, size, |bound| bound.cost)
}

/// The cost of an evaluation whose result is copied.
pub(super) fn cost_of_making(expression: &IdedExpr, size: Size) -> Cost {
    of_bound(expression, size, |bound| bound.cost + bound.size.bytes * COPIED + bound.size.values * VALUE)
}

fn of_bound(expression: &IdedExpr, size: Size, cost: impl Fn(Bound) -> f64) -> Cost {
    let mut estimate = Estimate { size: Amount::of(size), local: Vec::new(), steps: STEPS };
    estimate.bound(expression).map_or(Cost(u64::MAX), |bound| Cost::estimated(cost(bound)))
}

/// What it costs to go through a value, or to copy it.
fn through(size: Amount) -> f64 {
    size.bytes * BYTE + size.values * VALUE
}

struct Estimate<'a> {
    /// The size of all variables of the event together.
    size: Amount,
    /// The variables of the loops around, and the size of each.
    local: Vec<(&'a str, Amount)>,
    steps: u32,
}

impl<'a> Estimate<'a> {
    /// The bound of a node; `None` if the estimate takes too many steps.
    fn bound(&mut self, expression: &'a IdedExpr) -> Option<Bound> {
        self.steps = self.steps.checked_sub(1)?;
        let node = |cost: f64, size: Amount| Some(Bound { cost: NODE + cost, size });
        let text = |length: usize| Amount { bytes: length as f64, values: 1.0 };
        match &expression.expr {
            Expr::Unspecified => node(0.0, Amount::default()),
            Expr::Literal(LiteralValue::String(value)) => node(0.0, text(value.inner().len())),
            Expr::Literal(LiteralValue::Bytes(value)) => node(0.0, text(value.inner().len())),
            Expr::Literal(_) => node(0.0, text(20)),
            Expr::Ident(name) => {
                let local = self.local.iter().rev().find(|(local, _)| local == name);
                node(0.0, local.map_or(self.size, |(_, size)| *size))
            }
            Expr::Select(select) => {
                let operand = self.bound(&select.operand)?;
                node(operand.cost + select.field.len() as f64, operand.size)
            }
            Expr::Call(call) => {
                let target = call.target.as_deref().into_iter();
                let operands = target.chain(&call.args).map(|part| self.bound(part)).collect::<Option<Vec<_>>>()?;
                let (cost, size) = called(call, &operands);
                node(cost, size)
            }
            Expr::List(_) | Expr::Map(_) | Expr::Struct(_) => {
                let parts = parts(expression);
                let own = Amount::SMALLEST.times(parts.len() as f64);
                let sum =
                    parts.into_iter().try_fold(Bound::default(), |sum, part| Some(sum.plus(self.bound(part)?)))?;
                let size = sum.size.plus(own);
                node(sum.cost + through(size), size)
            }
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
        }
    }

    /// Only macros make loops. What they build up is true or false, a number, or a list that each step adds to.
    fn comprehension(&mut self, of: &'a ComprehensionExpr) -> Option<Bound> {
        let range = self.bound(&of.iter_range)?;
        let start = self.bound(&of.accu_init)?;
        let (largest, smallest) = (self.step(of, range.size)?, self.step(of, Amount::SMALLEST)?);
        let elements = range.size.values;
        let steps = largest.plus(Bound { cost: smallest.cost * elements, size: smallest.size.times(elements) });
        let builds_list = matches!(of.accu_init.expr, Expr::List(_) | Expr::Map(_));
        let size = if builds_list { steps.size } else { Amount::SMALLEST };
        self.local.push((&of.accu_var, size));
        let result = self.bound(&of.result);
        self.local.pop();
        // Each element is copied once.
        let cost = range.cost + start.cost + through(range.size) + steps.cost + result?.cost;
        Some(Bound { cost: NODE + cost, size })
    }

    /// A step of a loop for an element of this size. What was built up before is not copied.
    fn step(&mut self, of: &'a ComprehensionExpr, element: Amount) -> Option<Bound> {
        let outer = self.local.len();
        self.local.push((&of.accu_var, Amount::default()));
        self.local.push((&of.iter_var, element));
        self.local.extend(of.iter_var2.as_deref().map(|name| (name, element)));
        let condition = self.bound(&of.loop_cond);
        let step = self.bound(&of.loop_step);
        self.local.truncate(outer);
        let (condition, step) = (condition?, step?);
        Some(Bound { cost: condition.cost + step.cost, size: step.size })
    }
}

/// The cost of a call with its operands, and the size of its result.
///
/// Operands of types that an operator doesn't take are copied into the error, even one that is dropped: by `||`, by a
/// loop that goes on, or because the question was whether two values are equal. A number is compared with anything else
/// by such an error.
fn called(call: &CallExpr, operands: &[Bound]) -> (f64, Amount) {
    let sum = operands.iter().fold(Bound::default(), |sum, operand| sum.plus(*operand));
    let least = operands.iter().map(|operand| operand.size).reduce(Amount::least).unwrap_or_default();
    let [first, second] = [0_usize, 1].map(|at| operands.get(at).map(|operand| operand.size).unwrap_or_default());
    match call.func_name.as_str() {
        operators::LOGICAL_AND | operators::LOGICAL_OR | operators::NOT_STRICTLY_FALSE => (sum.cost, Amount::SMALLEST),
        // The error is made in any case.
        operators::LOGICAL_NOT => (CALL + sum.cost, Amount::SMALLEST),
        operators::CONDITIONAL => (CALL + sum.cost, sum.size),
        // Nothing is copied or gone through, if the index is one.
        operators::INDEX if call.args.get(1).is_some_and(is_index) => (CALL + sum.cost, sum.size),
        // The comparison ends where they differ.
        operators::EQUALS | operators::NOT_EQUALS => {
            let copied = if call.args.first().is_some_and(is_no_number) { 0.0 } else { through(second) };
            (CALL + sum.cost + through(least) + copied, Amount::SMALLEST)
        }
        // What has an order is no list and no object.
        operators::LESS | operators::LESS_EQUALS | operators::GREATER | operators::GREATER_EQUALS => {
            let copied = first.bytes * COPIED + through(second);
            (CALL + sum.cost + through(least) + copied, Amount::SMALLEST)
        }
        MEMBER | "size" | "contains" | "startsWith" | "endsWith" | "int" | "uint" | "double" | "bool" | "type" => {
            (2.0 * CALL + sum.cost + through(sum.size), Amount::SMALLEST)
        }
        _ => (CALL + sum.cost + through(sum.size), sum.size.plus(Amount::SMALLEST)),
    }
}

/// Whether this is an index of a list or the name of a member, whatever it is applied to.
fn is_index(expression: &IdedExpr) -> bool {
    matches!(&expression.expr, Expr::Literal(LiteralValue::Int(_) | LiteralValue::UInt(_) | LiteralValue::String(_)))
}

/// Whether this has no number in it, whatever the event is.
fn is_no_number(expression: &IdedExpr) -> bool {
    matches!(
        &expression.expr,
        Expr::Literal(LiteralValue::String(_) | LiteralValue::Bytes(_) | LiteralValue::Boolean(_) | LiteralValue::Null)
    )
}
