//! What a subject transform of NATS makes of subjects.

use super::{ANY, Stored};

/// A token of a pattern, and if it is a number from 0 up, the one that it stays below.
type Token<'a> = (&'a str, Option<u32>);

/// What a token of a transform's destination becomes.
enum Function {
    /// The token that the wildcard of this number stands for, counted from 1.
    Wildcard(usize),
    /// A number below this one.
    Number(u32),
    /// One token, of which no more is known.
    Any,
    /// One token or several.
    Several,
}

impl Function {
    /// Returns what the token calls, if it is no literal.
    fn of(token: &str) -> Option<Self> {
        if let Some(number) = token.strip_prefix('$') {
            return number.parse().ok().map(Self::Wildcard);
        }
        let call = token.strip_prefix("{{")?.strip_suffix("}}")?.to_ascii_lowercase();
        let (name, arguments) = call.split_once('(').unwrap_or((call.as_str(), ""));
        let first = arguments.split([',', ')']).next().unwrap_or_default().trim();
        Some(match name.trim() {
            "wildcard" => first.parse().map_or(Self::Any, Self::Wildcard),
            "partition" | "random" => first.parse().map_or(Self::Any, |number: u32| Self::Number(number.max(1))),
            "left" | "right" => Self::Any,
            _ => Self::Several,
        })
    }
}

/// Returns under which subjects a transform stores what it takes, all of which matches `from`.
pub(super) fn rewritten(taken: &Stored, from: &str, destination: &str) -> Stored {
    let below = |at: usize| taken.numbers.iter().find(|(place, _)| *place == at).map(|(_, below)| *below);
    let tokens: Vec<Token<'_>> = taken.pattern.split('.').enumerate().map(|(at, token)| (token, below(at))).collect();
    let places = |wildcard: &'static str| {
        from.split('.').enumerate().filter(move |(_, token)| *token == wildcard).map(|(at, _)| at)
    };
    let captures: Vec<Token<'_>> = places("*").filter_map(|at| tokens.get(at).copied()).collect();
    let rest = places(ANY).next().and_then(|at| tokens.get(at..)).unwrap_or(&[(ANY, None)]);

    let mut made: Vec<Token<'_>> = Vec::new();
    for token in destination.split('.') {
        match Function::of(token) {
            None if token == ANY => made.extend(rest),
            None => made.push((token, None)),
            Some(Function::Wildcard(number)) => {
                let captured = number.checked_sub(1).and_then(|at| captures.get(at));
                made.push(captured.copied().unwrap_or(("*", None)));
            }
            Some(Function::Number(below)) => made.push(("*", Some(below))),
            Some(Function::Any) => made.push(("*", None)),
            Some(Function::Several) => {
                made.push((ANY, None));
                break;
            }
        }
    }
    let pattern: Vec<&str> = made.iter().map(|(token, _)| *token).collect();
    Stored {
        pattern: pattern.join("."),
        numbers: made.iter().enumerate().filter_map(|(at, (_, below))| Some((at, (*below)?))).collect(),
        without: Vec::new(),
        unknown: taken.unknown.clone().filter(|unknown| !unknown.ends_with_a_filter()),
    }
}
