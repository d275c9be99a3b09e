//! What a subject transform of NATS makes of subjects.

use super::Stored;
use super::pattern::{ANY, MOST, ONE, Pattern, Shape, Token};

/// What a token of a transform's destination becomes. Where a function is given a token, the first number is that of its
/// wildcard, counted from 1.
enum Function<'a> {
    /// The token as it is.
    Wildcard(i64),
    /// A number, below this one if that is known.
    Number(Option<u32>),
    /// What a cut at so many bytes makes of the token.
    Cut(i64, Cut, usize),
    /// The parts of the token between these texts.
    Split(i64, &'a str),
    /// One token or several, of which no more is known.
    Several,
}

/// How a token is cut.
enum Cut {
    /// What is left of the cut stays.
    Left,
    /// What is right of the cut stays. Bytes are counted from the end.
    Right,
    /// Both stay.
    SplitFromLeft,
    /// Both stay. Bytes are counted from the end.
    SplitFromRight,
    /// It is cut again and again.
    SliceFromLeft,
    /// It is cut again and again. Bytes are counted from the end.
    SliceFromRight,
}

impl<'a> Function<'a> {
    /// Returns what the token calls, if it is no literal.
    fn of(token: &'a str) -> Option<Self> {
        if let Some(number) = token.strip_prefix('$') {
            return number.parse().ok().map(Self::Wildcard);
        }
        let call = token.strip_prefix("{{")?.strip_suffix("}}").filter(|call| !call.is_empty())?;
        Some(Self::called(call.trim()).unwrap_or(Self::Several))
    }

    fn called(call: &'a str) -> Option<Self> {
        let (name, arguments) = call.strip_suffix(')')?.split_once('(')?;
        let (first, second) = arguments.split_once(',').unwrap_or((arguments, ""));
        let (first, second) = (first.trim(), second.trim());
        let cut = match name.trim().to_ascii_lowercase().as_str() {
            "wildcard" => return first.parse().ok().map(Self::Wildcard),
            "partition" | "random" => return Some(Self::Number(first.parse().ok().map(|number: u32| number.max(1)))),
            "split" => return Some(Self::Split(first.parse().ok()?, second)),
            "left" => Cut::Left,
            "right" => Cut::Right,
            "splitfromleft" => Cut::SplitFromLeft,
            "splitfromright" => Cut::SplitFromRight,
            "slicefromleft" => Cut::SliceFromLeft,
            "slicefromright" => Cut::SliceFromRight,
            _ => return None,
        };
        let (token, bytes): (i64, i64) = (first.parse().ok()?, second.parse().ok()?);
        // NATS leaves the token as it is if the number isn't positive.
        let bytes = usize::try_from(bytes).ok().filter(|bytes| *bytes > 0);
        Some(bytes.map_or(Self::Wildcard(token), |bytes| Self::Cut(token, cut, bytes)))
    }

    /// Returns the tokens that may take the function's place. `token` gives that of a wildcard.
    fn made(&self, token: impl Fn(i64) -> Token) -> Vec<Vec<Token>> {
        match self {
            Self::Wildcard(number) => vec![vec![token(*number)]],
            Self::Number(below) => vec![vec![Token::One(Shape { below: *below, ..Shape::ANY })]],
            Self::Cut(number, cut, bytes) => match token(*number) {
                Token::Literal(text) => vec![cut.of_text(&text, *bytes)],
                Token::One(shape) | Token::Several(shape) => cut.of_shape(&shape, *bytes),
            },
            Self::Split(number, at) => match token(*number) {
                Token::Literal(text) => vec![parts(&text, at)],
                Token::One(shape) | Token::Several(shape) => vec![vec![Token::Several(part(&shape, at))]],
            },
            Self::Several => vec![vec![Token::Several(Shape::ANY)]],
        }
    }
}

/// Returns the parts of a token that is split at a text.
fn parts(token: &str, at: &str) -> Vec<Token> {
    let parts: Vec<_> = token.split(at).filter(|part| !part.is_empty()).collect();
    // Nothing is between the dots then, and no subject of a Producer has that.
    let parts = if parts.is_empty() { vec![""] } else { parts };
    parts.into_iter().map(|part| Token::Literal(part.to_owned())).collect()
}

/// Returns what is known of each part of a token that is split at a text.
fn part(shape: &Shape, at: &str) -> Shape {
    let mut part = piece(shape, 1, shape.most);
    // At an empty text, a token is split into its characters.
    part.lacks.extend(Some(at).filter(|at| !at.is_empty()).map(str::to_owned));
    part
}

/// Returns what is known of a piece of a token that has so many bytes.
fn piece(shape: &Shape, least: usize, most: Option<usize>) -> Shape {
    Shape { below: None, least, most, lacks: shape.lacks.clone(), is_piece: true }
}

impl Cut {
    /// Returns what becomes of a token that is known.
    fn of_text(&self, text: &str, bytes: usize) -> Vec<Token> {
        let text = text.as_bytes();
        let (left, right) = (bytes.min(text.len()), text.len().saturating_sub(bytes));
        let both = |(left, right)| vec![left, right];
        let pieces: Vec<&[u8]> = match self {
            Self::Left => vec![text.split_at(left).0],
            Self::Right => vec![text.split_at(right).1],
            Self::SplitFromLeft => both(text.split_at(left)),
            Self::SplitFromRight => both(text.split_at(right)),
            Self::SliceFromLeft => text.chunks(bytes).collect(),
            Self::SliceFromRight => text.rchunks(bytes).rev().collect(),
        };
        // A cut may go through a character. No subject of a Producer has such a token.
        let token = |piece| Token::Literal(String::from_utf8_lossy(piece).into_owned());
        pieces.into_iter().filter(|piece| !piece.is_empty()).map(token).collect()
    }

    /// Returns what may become of a token of this shape. NATS doesn't split one that is no longer than the cut.
    fn of_shape(&self, shape: &Shape, bytes: usize) -> Vec<Vec<Token>> {
        let is_longer = shape.most.is_none_or(|most| most > bytes);
        let most = Some(shape.most.map_or(bytes, |most| most.min(bytes)));
        let full = piece(shape, bytes, Some(bytes));
        let beyond = |length: usize| length.saturating_sub(bytes);
        let others = Token::One(piece(shape, beyond(shape.least).max(1), shape.most.map(beyond)));
        let last = Token::One(piece(shape, 1, Some(bytes)));
        let split = match self {
            Self::Left | Self::Right => {
                let kept = Shape { is_piece: false, ..piece(shape, shape.least.min(bytes), most) };
                return vec![vec![Token::One(kept)]];
            }
            Self::SplitFromLeft => vec![Token::One(full), others],
            Self::SplitFromRight => vec![others, Token::One(full)],
            Self::SliceFromLeft => vec![Token::Several(full), last],
            Self::SliceFromRight => vec![last, Token::Several(full)],
        };
        let whole = Token::One(Shape { most, is_piece: is_longer, ..shape.clone() });
        let whole = (shape.least <= bytes).then(|| vec![whole]);
        whole.into_iter().chain(is_longer.then_some(split)).collect()
    }
}

/// Returns under which subjects a transform stores what it takes, all of which matches `from`.
pub(super) fn rewritten(taken: &Stored, from: &str, destination: &str) -> Vec<Stored> {
    let tokens = &taken.pattern.0;
    let places = |wildcard: &'static str| {
        from.split('.').enumerate().filter(move |(_, token)| *token == wildcard).map(|(at, _)| at)
    };
    let captures: Vec<&Token> = places(ONE).filter_map(|at| tokens.get(at)).collect();
    let rest = places(ANY).next().and_then(|at| tokens.get(at..)).unwrap_or_default();
    let captured = |number: i64| {
        let at = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
        // NATS takes the first token of the subject for a number below 1.
        match at.map_or_else(|| tokens.first(), |at| captures.get(at).copied()) {
            Some(Token::Several(shape)) => Token::One(shape.clone()),
            Some(token) => token.clone(),
            None => Token::One(Shape::ANY),
        }
    };

    let mut made: Vec<Vec<Token>> = vec![Vec::new()];
    for token in destination.split('.') {
        let next = match Function::of(token) {
            None if token == ANY => vec![rest.to_vec()],
            None => vec![vec![Token::Literal(token.to_owned())]],
            Some(function) => function.made(captured),
        };
        let next = if made.len() * next.len() > MOST { Function::Several.made(captured) } else { next };
        let pairs = made.iter().flat_map(|made| next.iter().map(move |next| [made.as_slice(), next.as_slice()]));
        made = pairs.map(|pair| pair.concat()).collect();
    }
    let stored = |tokens| Stored {
        pattern: Pattern(tokens),
        without: Vec::new(),
        unknown: taken.unknown.clone().filter(|unknown| !unknown.ends_with_a_filter()),
    };
    made.into_iter().map(stored).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(taken: &str, destination: &str) -> Vec<Stored> {
        rewritten(&Stored::known(taken), "a.*", destination)
    }

    #[test]
    fn what_functions_make_of_any_token() {
        const SPLIT: &str = "b.{{SplitFromLeft(1,3)}}.c";
        const SLICED: &str = "{{sliceFromLeft(1,2)}}.c";
        for (destination, subject, want) in [
            (SPLIT, "b.x.c", true),
            (SPLIT, "b.abc.c", true),
            (SPLIT, "b.abc.y.c", true),
            (SPLIT, "b.*.c", true),
            (SPLIT, "b.*.*.c", true),
            (SPLIT, "b.>", true),
            (SPLIT, "b.abc.>", true),
            (SPLIT, "b.x.y", false),
            (SPLIT, "b.abcd.c", false),
            (SPLIT, "b.ab.y.c", false),
            (SPLIT, "b.*.*.*.c", false),
            (SPLIT, "b.x.>", false),
            ("b.{{Splitfromright(1, 2)}}", "b.x.yz", true),
            ("b.{{Splitfromright(1, 2)}}", "b.xy", true),
            ("b.{{Splitfromright(1, 2)}}", "b.x.y", false),
            ("b.{{Splitfromright(1, 2)}}", "b.xyz", false),
            (SLICED, "a.c", true),
            (SLICED, "ab.c.c", true),
            (SLICED, "ab.cd.ef.g.c", true),
            (SLICED, "a.b.c", false),
            (SLICED, "abc.c", false),
            ("b.{{SliceFromRight(1,2)}}", "b.a.bc.de", true),
            ("b.{{SliceFromRight(1,2)}}", "b.ab.c", false),
            ("b.{{split(1,-)}}.c", "b.x.y.c", true),
            ("b.{{split(1,-)}}.c", "b.>", true),
            ("b.{{split(1,-)}}.c", "b.x.y", false),
            ("b.{{split(1,-)}}.c", "b.x-y.c", false),
            ("b.{{split(1,)}}.c", "b.x.y.c", true),
            ("b.{{split(1,-)}}.x.{{split(1,_)}}.c", "b.p.q.x.r.c", true),
            ("b.{{split(1,-)}}.x.{{split(1,_)}}.c", "b.p.q.x.r.d", false),
            ("b.{{left(1,3)}}", "b.abc", true),
            ("b.{{left(1,3)}}", "b.*", true),
            ("b.{{left(1,3)}}", "b.abcd", false),
            ("b.{{ Right( 1, 3 ) }}", "b.abcd", false),
            ("b.{{right(1,0)}}", "b.abcd", true),
            ("$0.b", "a.b", true),
            ("$0.b", "x.b", false),
            ("{{random(3)}}.b", "2.b", true),
            ("{{random(3)}}.b", "3.b", false),
            ("{{}}.b", "{{}}.b", true),
        ] {
            let may_have = made("a.*", destination).iter().any(|stored| stored.may_have(subject));
            assert_eq!(may_have, want, "{destination} and {subject}");
        }
    }

    #[test]
    fn what_functions_make_of_a_known_token() {
        for (destination, want) in [
            ("b.{{left(1,2)}}", "b.ab"),
            ("b.{{right(1,2)}}", "b.de"),
            ("b.{{left(1,9)}}", "b.abcde"),
            ("b.{{splitfromleft(1,2)}}.c", "b.ab.cde.c"),
            ("b.{{splitfromright(1,2)}}.c", "b.abc.de.c"),
            ("b.{{splitfromleft(1,5)}}.c", "b.abcde.c"),
            ("b.{{slicefromleft(1,2)}}.c", "b.ab.cd.e.c"),
            ("b.{{slicefromright(1,2)}}.c", "b.a.bc.de.c"),
            ("b.{{slicefromright(1,-1)}}.c", "b.abcde.c"),
            ("b.{{split(1,bc)}}.c", "b.a.de.c"),
            ("b.{{split(1,x)}}.c", "b.abcde.c"),
            ("b.{{split(1,e)}}.c", "b.abcd.c"),
            ("b.{{split(1,)}}", "b.a.b.c.d.e"),
        ] {
            let told: Vec<_> = made("a.abcde", destination).iter().map(ToString::to_string).collect();
            assert_eq!(told, [want], "{destination}");
        }
        assert!(!made("a.-", "b.{{split(1,-)}}.c")[0].may_have("b.c"));
    }

    #[test]
    fn many_functions_make_one_wider_pattern() {
        let split = ".{{splitfromleft(1,3)}}".repeat(20);
        let made = made("a.*", &format!("b{split}.c"));
        assert!(made.len() <= MOST, "{}", made.len());
        assert!(made.iter().any(|stored| stored.may_have(&format!("b{}.c", ".abc.d".repeat(20)))));
        assert!(!made.iter().any(|stored| stored.may_have(&format!("b{}.d", ".abc.d".repeat(20)))));
    }
}
