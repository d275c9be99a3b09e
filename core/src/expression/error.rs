//! Errors of expressions: at compile time with their place, at run time with their kind alone.

/// How much of a line is shown before and after an error, in characters.
const BEFORE: usize = 50;
const AFTER: usize = 25;

/// Why an expression doesn't compile. The text shows the line and points at the place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}, at line {line}, column {column}:\n{excerpt}\n{caret:>width$}", caret = '^', width = .caret)]
pub struct CompileError {
    message: String,
    /// The line and the column of the error, from 1.
    line: usize,
    column: usize,
    /// The part of the line around the error.
    excerpt: String,
    /// The position of the caret below the excerpt, from 1.
    caret: usize,
}

impl CompileError {
    /// An error at a byte of the text. An offset within a character or beyond the end is moved back.
    #[must_use]
    pub fn at(text: &str, offset: usize, message: impl Into<String>) -> Self {
        let mut offset = offset.min(text.len());
        while !text.is_char_boundary(offset) {
            offset -= 1;
        }
        let before = &text[..offset];
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let column = text[start..offset].chars().count();
        let skipped = column.saturating_sub(BEFORE);
        let rest = text[start..].lines().next().unwrap_or_default();
        let shown = rest.chars().skip(skipped).take(column - skipped + AFTER);
        let excerpt: String = shown.map(|c| if c.is_control() { ' ' } else { c }).collect();
        Self {
            message: message.into(),
            line: before.matches('\n').count() + 1,
            column: column + 1,
            excerpt,
            caret: column - skipped + 1,
        }
    }
}

/// Why an evaluation gave no value. It never contains a value of the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum RunError {
    /// The event doesn't have an attribute that the expression looks at.
    #[error("MissingAttribute")]
    MissingAttribute,
    /// A value can't be converted to the type that an operator or function takes.
    #[error("Cast")]
    Cast,
    /// A number is out of range, or divided by zero.
    #[error("Math")]
    Math,
    /// A function doesn't take these arguments.
    #[error("FunctionEvaluation")]
    Function,
    /// There is no such function.
    #[error("MissingFunction")]
    MissingFunction,
    /// An operator doesn't take values of these types.
    #[error("WrongType")]
    WrongType,
    /// An object doesn't have the key, or a list the index.
    #[error("NoSuchKey")]
    NoSuchKey,
    /// The result isn't true or false, as the result of a filter has to be.
    #[error("NotBoolean")]
    NotBoolean,
    /// The expression looks at the data, and the data is not JSON.
    #[error("NoJsonData")]
    NoJsonData,
    /// The evaluation failed in a way that it never should.
    #[error("Internal")]
    Internal,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_points_at_the_place() {
        for (text, offset, want) in [
            ("a = ", 4, "no, at line 1, column 5:\na = \n    ^"),
            ("a\n  b ä c", 7, "no, at line 2, column 5:\n  b ä c\n    ^"),
            ("", 0, "no, at line 1, column 1:\n\n^"),
            ("a\tb", 99, "no, at line 1, column 4:\na b\n   ^"),
        ] {
            assert_eq!(CompileError::at(text, offset, "no").to_string(), want, "{text:?}");
        }
        let long = format!("{}!{}", "ä".repeat(500), "b".repeat(500));
        let error = CompileError::at(&long, 1000, "no").to_string();
        let lines: Vec<&str> = error.lines().collect();
        assert_eq!(lines[1], format!("{}!{}", "ä".repeat(50), "b".repeat(24)));
        assert_eq!(lines[2], format!("{}^", " ".repeat(50)));
    }
}
