//! Patterns of LIKE.

/// A pattern: `%` stands for any number of characters, `_` for one.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    /// The characters that it begins with, which stand for themselves.
    start: Box<str>,
    rest: Box<[Part]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Any,
    One,
    Char(char),
}

impl Pattern {
    /// Reads a pattern. A backslash makes `%` and `_` mean themselves; before others it means itself.
    pub(super) fn of(text: &str) -> Self {
        let mut parts = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            parts.push(match c {
                // Several have the meaning of one.
                '%' if parts.last() == Some(&Part::Any) => continue,
                '%' => Part::Any,
                '_' => Part::One,
                '\\' => Part::Char(chars.next_if(|next| matches!(next, '%' | '_')).unwrap_or('\\')),
                c => Part::Char(c),
            });
        }
        let itself = |part: &Part| if let Part::Char(c) = part { Some(*c) } else { None };
        let start: String = parts.iter().map_while(itself).collect();
        let rest = parts.iter().copied().skip_while(|part| itself(part).is_some()).collect();
        Self { start: start.into(), rest }
    }

    /// The number of parts, at most.
    pub(super) fn len(&self) -> usize {
        self.start.len() + self.rest.len()
    }

    /// Whether a text matches. It takes at most as many steps as the pattern has parts, for each character.
    pub(super) fn matches(&self, text: &str) -> bool {
        let Some(rest) = text.strip_prefix(&*self.start) else { return false };
        let (mut part, mut rest) = (0, rest);
        // Where to go on if the rest doesn't fit: behind the last `%`, with one character more taken by it.
        let mut back: Option<(usize, &str)> = None;
        loop {
            let next = rest.chars().next();
            match (self.rest.get(part), next) {
                (Some(Part::Any), _) => {
                    back = Some((part + 1, rest));
                    part += 1;
                }
                (Some(Part::One), Some(c)) => (part, rest) = (part + 1, &rest[c.len_utf8()..]),
                (Some(Part::Char(want)), Some(c)) if *want == c => (part, rest) = (part + 1, &rest[c.len_utf8()..]),
                (None, None) => return true,
                _ => {
                    let Some((after, taken)) = back else { return false };
                    let Some(c) = taken.chars().next() else { return false };
                    let taken = &taken[c.len_utf8()..];
                    back = Some((after, taken));
                    (part, rest) = (after, taken);
                }
            }
        }
    }
}
