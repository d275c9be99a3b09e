//! Bounds on the text of an expression, checked before any parser sees it.
//!
//! Each level of a syntax tree takes a sign in the text: a bracket, a dot, an operator. The signs are counted
//! everywhere, in quoted text and comments, too. So no quoting that this count and a parser read differently can hide
//! depth from it, and no parser gets a text whose tree could be deep enough to exhaust the stack.

use super::error::{CompileError, RunError};

/// The longest expression, in bytes.
pub const MAX_LENGTH: usize = 4096;
/// The most opening brackets in an expression.
pub const MAX_BRACKETS: usize = 64;
/// The most other signs that may nest: operators and dots.
pub const MAX_SIGNS: usize = 512;

/// The stack that compiling gets. A parser that recurses for each sign needs less, even without optimization.
const STACK: usize = 32 * 1024 * 1024;

/// Checks the text of an expression that a parser of someone else's reads.
///
/// # Errors
/// If the text is empty, or beyond a bound.
pub fn check(text: &str) -> Result<(), CompileError> {
    check_length(text)?;
    at_most(text, MAX_BRACKETS, |c| matches!(c, '(' | '[' | '{'), "opening brackets")?;
    let is_sign =
        |c: char| c.is_ascii_punctuation() && !matches!(c, '(' | ')' | '[' | ']' | '{' | '}' | ',' | '_' | '\'' | '"');
    at_most(text, MAX_SIGNS, is_sign, "operators, dots and other signs")
}

/// Compiles an expression with a parser of someone else's: within the bounds, and on a thread of its own, so that the
/// stack is large enough for every text within the bounds, and a panic is an error of the expression.
///
/// # Errors
/// What `compile` says; or that the parser panicked.
pub(super) fn compiled<T: Send>(
    text: &str,
    compile: impl FnOnce() -> Result<T, CompileError> + Send,
) -> Result<T, CompileError> {
    check(text)?;
    apart(compile).unwrap_or_else(|failure| Err(CompileError::at(text, 0, failure)))
}

/// Runs a parser of someone else's on a thread of its own, whose stack is large. If that fails, or the parser panics, the
/// reason is returned.
pub(crate) fn apart<T: Send>(compile: impl FnOnce() -> T + Send) -> Result<T, String> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, compile);
        let thread = thread.map_err(|error| format!("no thread can be started to compile it: {error}"))?;
        thread.join().map_err(|_| "the parser failed at this text".to_owned())
    })
}

/// The result of an evaluation, which must not panic, but is of someone else's.
pub(super) fn evaluated<T>(evaluate: impl FnOnce() -> Result<T, RunError>) -> Result<T, RunError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(evaluate)).unwrap_or(Err(RunError::Internal))
}

/// Checks the length of an expression.
///
/// # Errors
/// If the text is empty or too long.
pub fn check_length(text: &str) -> Result<(), CompileError> {
    if text.len() > MAX_LENGTH {
        return Err(CompileError::at(text, MAX_LENGTH, format!("an expression has at most {MAX_LENGTH} bytes")));
    }
    if text.trim().is_empty() {
        return Err(CompileError::at(text, text.len(), "the expression is empty"));
    }
    Ok(())
}

fn at_most(text: &str, most: usize, counts: impl Fn(char) -> bool, what: &str) -> Result<(), CompileError> {
    match text.char_indices().filter(|(_, c)| counts(*c)).nth(most) {
        Some((at, _)) => Err(CompileError::at(text, at, format!("an expression has at most {most} {what}"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_beyond_a_bound_are_refused() {
        for (text, ok) in [
            (" ".to_owned(), false),
            (String::new(), false),
            ("a".repeat(MAX_LENGTH), true),
            ("a".repeat(MAX_LENGTH + 1), false),
            ("(".repeat(MAX_BRACKETS), true),
            ("([{".repeat(MAX_BRACKETS / 3 + 1), false),
            (format!("'{}'{}", ")".repeat(200), "(".repeat(65)), false),
            ("!".repeat(MAX_SIGNS), true),
            ("!".repeat(MAX_SIGNS + 1), false),
            (format!("a in ['{}']", ["x"; 900].join("','")), true),
        ] {
            assert_eq!(check(&text).is_ok(), ok, "{text}");
        }
    }
}
