//! The cost of an evaluation, from the syntax tree and the size of the variables. See the same of JMESPath.

use ::cel::common::ast::{ComprehensionExpr, Expr, IdedExpr, LiteralValue, operators};

use super::super::cost::Cost;
use super::tree::parts;

/// The cost of a node, and of a call besides what the function does.
const NODE: f64 = 150.0;
const CALL: f64 = 300.0;
/// The cost for each byte of a value that a function or an operator goes through, or that is copied.
const BYTE: f64 = 15.0;
/// The bytes of the smallest element of a list, with its comma.
const SMALLEST: f64 = 2.0;
/// The most steps that the estimate itself takes.
const STEPS: u32 = 20_000;

pub(super) fn cost(expression: &IdedExpr, size: usize) -> Cost {
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate"
    )]
    let size = size as f64;
    let mut estimate = Estimate { size, local: Vec::new(), steps: STEPS };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an estimate")]
    let cost = estimate.bound(expression).map_or(u64::MAX, |bound| bound.cost as u64);
    Cost(cost)
}

/// The cost of a part, and the bytes of its result.
#[derive(Clone, Copy, Default)]
struct Bound {
    cost: f64,
    bytes: f64,
}

struct Estimate<'a> {
    /// The bytes of all variables of the event together.
    size: f64,
    /// The variables of the loops around, and the bytes of each.
    local: Vec<(&'a str, f64)>,
    steps: u32,
}

impl<'a> Estimate<'a> {
    /// The bound of a node; `None` if the estimate takes too many steps.
    fn bound(&mut self, expression: &'a IdedExpr) -> Option<Bound> {
        self.steps = self.steps.checked_sub(1)?;
        let node = |cost: f64, bytes: f64| Some(Bound { cost: NODE + cost, bytes });
        match &expression.expr {
            Expr::Unspecified => node(0.0, 0.0),
            Expr::Literal(LiteralValue::String(text)) => node(0.0, text.inner().len() as f64),
            Expr::Literal(LiteralValue::Bytes(bytes)) => node(0.0, bytes.inner().len() as f64),
            Expr::Literal(_) => node(0.0, 20.0),
            Expr::Ident(name) => {
                let local = self.local.iter().rev().find(|(local, _)| local == name);
                node(0.0, local.map_or(self.size, |(_, bytes)| *bytes))
            }
            Expr::Select(select) => {
                let operand = self.bound(&select.operand)?;
                node(operand.cost + select.field.len() as f64, operand.bytes)
            }
            Expr::Call(call) => {
                let sum = self.all(expression)?;
                let bytes = match call.func_name.as_str() {
                    operators::LOGICAL_AND
                    | operators::LOGICAL_OR
                    | operators::LOGICAL_NOT
                    | operators::NOT_STRICTLY_FALSE => {
                        return node(sum.cost, 5.0);
                    }
                    // Nothing is copied or looked through.
                    operators::INDEX | operators::CONDITIONAL => return node(CALL + sum.cost, sum.bytes),
                    _ => sum.bytes + 20.0,
                };
                node(CALL + sum.cost + bytes * BYTE, bytes)
            }
            Expr::List(_) | Expr::Map(_) | Expr::Struct(_) => {
                let (sum, count) = (self.all(expression)?, parts(expression).len() as f64);
                let bytes = sum.bytes + count * SMALLEST;
                node(sum.cost + bytes * BYTE, bytes)
            }
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
        }
    }

    /// The sum of all parts of a node.
    fn all(&mut self, expression: &'a IdedExpr) -> Option<Bound> {
        parts(expression).into_iter().try_fold(Bound::default(), |sum, part| {
            let part = self.bound(part)?;
            Some(Bound { cost: sum.cost + part.cost, bytes: sum.bytes + part.bytes })
        })
    }

    /// Only macros make loops. What they build up is true or false, a number, or a list that each step adds to.
    fn comprehension(&mut self, of: &'a ComprehensionExpr) -> Option<Bound> {
        let range = self.bound(&of.iter_range)?;
        let start = self.bound(&of.accu_init)?;
        let (largest, smallest) = (self.step(of, range.bytes)?, self.step(of, SMALLEST)?);
        let elements = range.bytes / SMALLEST;
        let sum = |largest: f64, smallest: f64| largest + elements * smallest;
        let builds_list = matches!(of.accu_init.expr, Expr::List(_) | Expr::Map(_));
        let bytes = if builds_list { sum(largest.bytes, smallest.bytes) } else { 20.0 };
        self.local.push((&of.accu_var, bytes));
        let result = self.bound(&of.result);
        self.local.pop();
        // Each element is copied once.
        let cost = range.cost + start.cost + range.bytes * BYTE + sum(largest.cost, smallest.cost) + result?.cost;
        Some(Bound { cost: NODE + cost, bytes })
    }

    /// A step of a loop for an element of this many bytes. What was built up before is not copied.
    fn step(&mut self, of: &'a ComprehensionExpr, element: f64) -> Option<Bound> {
        let outer = self.local.len();
        self.local.push((&of.accu_var, 0.0));
        self.local.push((&of.iter_var, element));
        self.local.extend(of.iter_var2.as_deref().map(|name| (name, element)));
        let condition = self.bound(&of.loop_cond);
        let step = self.bound(&of.loop_step);
        self.local.truncate(outer);
        let (condition, step) = (condition?, step?);
        Some(Bound { cost: condition.cost + step.cost, bytes: step.bytes })
    }
}
