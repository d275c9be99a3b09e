//! Patterns of the subjects that a stream stores. They say more about a token than the wildcards of NATS can, as the
//! functions of its transforms do.

use std::collections::BTreeSet;
use std::fmt;

/// The wildcard for one token or several at the end of a subject, and so the pattern of every subject.
pub(super) const ANY: &str = ">";
/// The wildcard for one token.
pub(super) const ONE: &str = "*";
/// How many patterns come of one at most. If more would, one wider pattern takes their place.
pub(super) const MOST: usize = 16;

/// What is known of a token that isn't known itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    /// The token is a number from 0 up, below this one.
    pub(super) below: Option<u32>,
    /// The fewest bytes that it has.
    pub(super) least: usize,
    /// The most bytes that it has.
    pub(super) most: Option<usize>,
    /// It contains none of these texts.
    pub(super) lacks: Vec<String>,
    /// It is one of those that a function makes of a token, as many as that token's length asks for.
    pub(super) is_piece: bool,
}

impl Shape {
    /// That of any token.
    pub(super) const ANY: Self = Self { below: None, least: 1, most: None, lacks: Vec::new(), is_piece: false };

    fn allows(&self, token: &str) -> bool {
        // NATS writes numbers without zeros in front.
        let is_number = |below: u32| token.parse().is_ok_and(|n: u32| n < below && n.to_string() == token);
        self.below.is_none_or(is_number)
            && token.len() >= self.least
            && self.most.is_none_or(|most| token.len() <= most)
            && !self.lacks.iter().any(|text| token.contains(text.as_str()))
    }

    /// Returns what is known, in words that follow those for the token.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        notes.extend(self.below.map(|below| format!("is a number below {below}")));
        match (self.least, self.most) {
            (least, Some(most)) if least == most => notes.push(format!("has {most} bytes")),
            (_, Some(most)) => notes.push(format!("has at most {most} bytes")),
            (2.., None) => notes.push(format!("has at least {} bytes", self.least)),
            _ => {}
        }
        notes.extend(self.lacks.iter().map(|text| format!("has no {text:?}")));
        notes
    }
}

/// A token of a pattern, or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// This token.
    Literal(String),
    /// One token.
    One(Shape),
    /// One or more tokens, each of this shape.
    Several(Shape),
}

impl Token {
    /// Whether the token may be this one, or each that a wildcard stands for as far as its place goes.
    fn may_be(&self, token: &str) -> bool {
        match self {
            Self::Literal(text) => text == token,
            Self::One(shape) | Self::Several(shape) => token == ONE || shape.allows(token),
        }
    }

    /// Whether the token is within what a token of a filter lets through.
    fn is_within(&self, wanted: &str) -> bool {
        wanted == ONE || matches!(self, Self::Literal(text) if text == wanted)
    }

    /// Whether it depends on the subject how many tokens there are from here on.
    fn varies(&self) -> bool {
        match self {
            Self::Literal(_) => false,
            Self::One(shape) => shape.is_piece,
            Self::Several(_) => true,
        }
    }

    /// Returns what a token of a filter leaves of the first token here. A filter has a fixed number of them.
    fn narrowed(&self, wanted: &str) -> Option<Self> {
        match self {
            Self::Literal(_) => self.is_within(wanted).then(|| self.clone()),
            Self::One(shape) | Self::Several(shape) if wanted == ONE => {
                Some(Self::One(Shape { is_piece: false, ..shape.clone() }))
            }
            Self::One(shape) | Self::Several(shape) => shape.allows(wanted).then(|| Self::Literal(wanted.to_owned())),
        }
    }

    /// Returns the places in a pattern that may follow when this token, at the place `at`, has taken one.
    fn next(&self, at: usize) -> impl Iterator<Item = usize> + use<> {
        let again = matches!(self, Self::Several(_)).then_some(at);
        [at + 1].into_iter().chain(again)
    }
}

/// A pattern of subjects. Unlike one of NATS, it may have several tokens of unknown number in the middle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern(pub(super) Vec<Token>);

impl Pattern {
    /// Returns the pattern that one of NATS stands for.
    pub(super) fn of(subject: &str) -> Self {
        let token = |token: &str| match token {
            ANY => Token::Several(Shape::ANY),
            ONE => Token::One(Shape::ANY),
            literal => Token::Literal(literal.to_owned()),
        };
        Self(subject.split('.').map(token).collect())
    }

    /// Whether it has the subjects that this one of NATS matches. Where only some tokens are possible, a `*` comes as close
    /// as a subject can, and so does a `>` where the number of tokens varies.
    pub(super) fn may_have(&self, subject: &str) -> bool {
        let mut places = BTreeSet::from([0_usize]);
        for wanted in subject.split('.') {
            let mut here = places.iter().filter_map(|at| Some((*at, self.0.get(*at)?)));
            if wanted == ANY {
                return here.any(|(_, token)| token.varies());
            }
            places = here.filter(|(_, token)| token.may_be(wanted)).flat_map(|(at, token)| token.next(at)).collect();
        }
        places.contains(&self.0.len())
    }

    /// Whether a filter of NATS lets all of its subjects through.
    pub(super) fn is_within(&self, filter: &str) -> bool {
        let mut places = BTreeSet::from([0_usize]);
        for wanted in filter.split('.') {
            let here: Option<Vec<_>> = places.iter().map(|at| Some((*at, self.0.get(*at)?))).collect();
            // A subject may have ended here.
            let Some(here) = here else { return false };
            if wanted == ANY {
                return true;
            }
            if !here.iter().all(|(_, token)| token.is_within(wanted)) {
                return false;
            }
            places = here.into_iter().flat_map(|(at, token)| token.next(at)).collect();
        }
        places.iter().all(|at| *at == self.0.len())
    }

    /// Returns the patterns of the subjects that a filter of NATS lets through.
    pub(super) fn narrowed(&self, filter: &str) -> Vec<Self> {
        self.parted(filter).unwrap_or_else(|| self.widened().parted(filter).unwrap_or_default())
    }

    /// Returns the patterns of the subjects that a filter of NATS lets through, unless there are too many.
    fn parted(&self, filter: &str) -> Option<Vec<Self>> {
        let mut begun: Vec<(Vec<Token>, usize)> = vec![(Vec::new(), 0)];
        for wanted in filter.split('.') {
            if wanted == ANY {
                let whole = |(made, at): (Vec<Token>, usize)| {
                    let rest = self.0.get(at..).filter(|rest| !rest.is_empty())?;
                    Some(Self([made.as_slice(), rest].concat()))
                };
                return Some(begun.into_iter().filter_map(whole).collect());
            }
            let mut longer = Vec::new();
            for (made, at) in begun {
                let Some(token) = self.0.get(at) else { continue };
                let Some(narrowed) = token.narrowed(wanted) else { continue };
                let made = [made.as_slice(), &[narrowed]].concat();
                longer.extend(token.next(at).map(|at| (made.clone(), at)));
            }
            if longer.len() > MOST {
                return None;
            }
            begun = longer;
        }
        Some(begun.into_iter().filter(|(_, at)| *at == self.0.len()).map(|(made, _)| Self(made)).collect())
    }

    /// Returns a pattern in which tokens of unknown number are at the end.
    fn widened(&self) -> Self {
        let known = self.0.iter().take_while(|token| !matches!(token, Token::Several(_))).cloned();
        Self(known.chain([Token::Several(Shape::ANY)]).collect())
    }
}

/// As NATS would write it, with what it can't say in brackets.
impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_last = |at: usize| at + 1 == self.0.len();
        let text = |(at, token): (usize, &Token)| match token {
            Token::Literal(text) => text.clone(),
            Token::Several(_) if is_last(at) => ANY.to_owned(),
            Token::One(_) | Token::Several(_) => ONE.to_owned(),
        };
        f.write_str(&self.0.iter().enumerate().map(text).collect::<Vec<_>>().join("."))?;
        for (at, token) in self.0.iter().enumerate() {
            let notes = match token {
                Token::Literal(_) => Vec::new(),
                Token::Several(shape) if !is_last(at) => {
                    [vec!["stands for one or more".to_owned()], shape.notes()].concat()
                }
                Token::One(shape) | Token::Several(shape) => shape.notes(),
            };
            if !notes.is_empty() {
                write!(f, " (token {} {})", at + 1, notes.join(" and "))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hookwright_core::nats::subject;

    /// The pattern of NATS in which `+` stands for one token or several, and `3` for one of at most 3 bytes.
    fn pattern(text: &str) -> Pattern {
        let short = Shape { most: Some(3), ..Shape::ANY };
        let token = |text: &str| match text {
            "+" => Token::Several(Shape::ANY),
            "3" => Token::One(short.clone()),
            other => Pattern::of(other).0.remove(0),
        };
        Pattern(text.split('.').map(token).collect())
    }

    #[test]
    fn several_in_the_middle_table() {
        for (known, subject, want) in [
            ("b.+.c", "b.x.c", true),
            ("b.+.c", "b.x.y.c", true),
            ("b.+.c", "b.c.c", true),
            ("b.+.c", "b.*.c", true),
            ("b.+.c", "b.*.*.*", false),
            ("b.+.c", "b.>", true),
            ("b.+.c", "b.x.>", true),
            ("b.+.c", "b.x.y", false),
            ("b.+.c", "b.c", false),
            ("b.+.c", "b", false),
            ("b.+.c", ">", false),
            ("b.+.c.+", "b.x.c.d", true),
            ("b.+.c.+", "b.x.d.c", false),
            ("b.+.c.+", "b.x.c.>", true),
            ("b.3.c", "b.abc.c", true),
            ("b.3.c", "b.abcd.c", false),
            ("b.3.c", "b.ä€.c", false),
            ("b.3.c", "b.*.c", true),
            ("b.3.c", "b.>", false),
        ] {
            assert_eq!(pattern(known).may_have(subject), want, "{known} and {subject}");
        }
    }

    #[test]
    fn filters_table() {
        for (known, filter, within, want) in [
            ("b.+.c", "b.>", true, &["b.*.c (token 2 stands for one or more)"][..]),
            ("b.+.c", "b.*.>", true, &["b.*.c", "b.*.*.c (token 3 stands for one or more)"]),
            ("b.+.c", "b.*.*", false, &["b.*.c"]),
            ("b.+.c", "b.*.x.*", false, &["b.*.x.c"]),
            ("b.+.c", "b.x.>", false, &["b.x.c", "b.x.*.c (token 3 stands for one or more)"]),
            ("b.+.c", "b.x", false, &[]),
            ("b.+.c", "*", false, &[]),
            ("b.+.c.+", "b.x.c.c.c", false, &["b.x.c.c.c"; 2]),
            ("b.3", "b.*", true, &["b.* (token 2 has at most 3 bytes)"]),
            ("b.3", "b.abcd", false, &[]),
            ("b.3", "b.abc", false, &["b.abc"]),
            ("b.>", "b.*.*.>", false, &["b.*.*.>"]),
        ] {
            let known = pattern(known);
            let told: Vec<_> = known.narrowed(filter).iter().map(ToString::to_string).collect();
            assert_eq!(told, want, "{known} {filter}");
            assert_eq!(known.is_within(filter), within, "{known} {filter}");
        }
        // These are too many to tell apart.
        let many = pattern("b.+.+.+.+.c").narrowed("b.*.*.*.*.*.*.*.*.*.*.>");
        assert!(many.len() == 1 && many[0].may_have("b.x.x.x.x.x.x.x.x.x.x.d"), "{many:?}");
    }

    #[test]
    fn patterns_of_nats_mean_what_they_mean_there() {
        let all = ["a", "b", "*", ">", "a.b", "a.*", "*.b", "*.*", "a.>", "*.>", "a.*.>", "a.b.c", "a.*.c", "*.b.>"];
        for (one, other) in all.iter().flat_map(|one| all.map(|other| (*one, other))) {
            let (left, within) = (Pattern::of(one).narrowed(other), subject::is_within(one, other));
            let left: Vec<_> = left.iter().map(ToString::to_string).collect();
            assert_eq!(left, Vec::from_iter(subject::intersection(one, other)), "{one} and {other}");
            assert_eq!(Pattern::of(one).is_within(other), within, "{one} within {other}");
            assert_eq!(Pattern::of(other).may_have(one), within, "{one} within {other}");
        }
    }
}
