//! The tokens of an expression.

use crate::expression::CompileError;

/// A token. Words are names, keywords, functions and integers; the parser tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    Word(&'a str),
    /// A quoted text with its quotes.
    Quoted(&'a str),
    Sign(&'static str),
    End,
}

/// A token and the byte where it begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed<'a> {
    pub(super) token: Token<'a>,
    pub(super) at: usize,
}

/// Longer signs first.
const SIGNS: [&str; 14] = ["!=", "<>", "<=", ">=", "=", "<", ">", "+", "-", "*", "/", "%", "(", ")"];
const COMMA: &str = ",";

pub(super) fn tokens(text: &str) -> Result<Vec<Placed<'_>>, CompileError> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        if matches!(first, ' ' | '\t' | '\r' | '\n') {
            at += 1;
            continue;
        }
        let rest = &text[at..];
        let (token, length) = if first == '\'' || first == '"' {
            let Some(length) = quoted(rest, first) else {
                return Err(CompileError::at(text, at, "the text that begins here has no closing quote"));
            };
            (Token::Quoted(&rest[..length]), length)
        } else if first.is_ascii_alphanumeric() || first == '_' {
            let length = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            (Token::Word(&rest[..length]), length)
        } else if let Some(sign) = SIGNS.into_iter().chain([COMMA]).find(|sign| rest.starts_with(sign)) {
            (Token::Sign(sign), sign.len())
        } else {
            return Err(CompileError::at(text, at, format!("unexpected character {first:?}")));
        };
        tokens.push(Placed { token, at });
        at += length;
    }
    tokens.push(Placed { token: Token::End, at: text.len() });
    Ok(tokens)
}

/// The length of a quoted text, with its quotes. A backslash takes the next character with it.
fn quoted(text: &str, quote: char) -> Option<usize> {
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        if c == '\\' {
            chars.next();
        } else if c == quote {
            return Some(at + 1);
        }
    }
    None
}

/// The text that a quoted text stands for. Only its own quote is escaped; other backslashes stay.
pub(super) fn unquoted(quoted: &str) -> String {
    let quote = &quoted[..1];
    quoted[1..quoted.len() - 1].replace(&format!("\\{quote}"), quote)
}
