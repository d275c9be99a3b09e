//! The patterns with a wildcard, by their tokens.
//!
//! The tokens between two branches are one step. So there are less than two nodes for each pattern, however long the
//! patterns are, and an event visits each node at most once. Whoever writes patterns whose beginnings all fit an event,
//! such as `*.a`, `a.*` and `a.a`, makes it visit twice their number at most, and not each token of each.

use std::collections::HashMap;

use super::slots::{Count, Place, Slots};

/// The patterns that begin with the tokens on the way to it.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// The tokens between the branch above and this node, with `*` for any; often none.
    path: Box<str>,
    /// The entries whose pattern ends here.
    end: Slots,
    /// The entries whose pattern goes on with `>`.
    rest: Slots,
    /// The patterns that go on with `*`.
    any: Option<Box<Node>>,
    /// The patterns that go on with a token.
    tokens: HashMap<Box<str>, Node>,
}

impl Node {
    pub(super) fn is_empty(&self) -> bool {
        self.end.is_empty() && self.rest.is_empty() && self.any.is_none() && self.tokens.is_empty()
    }

    /// The tokens of the path.
    fn steps(&self) -> impl Iterator<Item = &str> {
        self.path.split('.').filter(|token| !token.is_empty())
    }

    /// Adds an entry, and returns the count of the events that the pattern selects.
    pub(super) fn insert(&mut self, pattern: &str, place: Place<'_>) -> Count {
        let pattern: Vec<&str> = pattern.split('.').collect();
        let (mut node, mut tokens) = (self, &pattern[..]);
        if node.is_empty() {
            node.path = path_of(tokens);
        }
        loop {
            let common = node.steps().zip(tokens).take_while(|(own, token)| *own == **token).count();
            node.split(common);
            match &tokens[common..] {
                [] => return node.end.insert(place),
                [">"] => return node.rest.insert(place),
                [token, more @ ..] => {
                    let fresh = || Node { path: path_of(more), ..Node::default() };
                    node = match *token {
                        "*" => node.any.get_or_insert_with(|| Box::new(fresh())).as_mut(),
                        token => node.tokens.entry(token.into()).or_insert_with(fresh),
                    };
                    tokens = more;
                }
            }
        }
    }

    pub(super) fn remove(&mut self, pattern: &str, place: Place<'_>) {
        let tokens: Vec<&str> = pattern.split('.').collect();
        self.remove_tokens(&tokens, place);
    }

    fn remove_tokens(&mut self, tokens: &[&str], place: Place<'_>) {
        let (path, tokens) = tokens.split_at(self.steps().count().min(tokens.len()));
        if !self.steps().eq(path.iter().copied()) {
            return;
        }
        match tokens {
            [] => self.end.remove(place),
            [">"] => self.rest.remove(place),
            ["*", more @ ..] => {
                if let Some(any) = &mut self.any {
                    any.remove_tokens(more, place);
                    if any.is_empty() {
                        self.any = None;
                    }
                }
            }
            [token, more @ ..] => {
                if let Some(node) = self.tokens.get_mut(*token) {
                    node.remove_tokens(more, place);
                    if node.is_empty() {
                        self.tokens.remove(*token);
                    }
                }
            }
        }
        self.join();
    }

    /// Makes a branch of the token with this number on the path, if there is one.
    fn split(&mut self, at: usize) {
        let tokens: Vec<&str> = self.steps().collect();
        let [token, after @ ..] = &tokens[at..] else { return };
        let (before, token, after) = (tokens[..at].join("."), (*token).to_owned(), after.join("."));
        let below = Node { path: after.into(), ..std::mem::take(self) };
        self.path = before.into();
        if token == "*" {
            self.any = Some(Box::new(below));
        } else {
            self.tokens.insert(token.into(), below);
        }
    }

    /// Makes one step of this node and the one below, if nothing else is here.
    fn join(&mut self) {
        if !self.end.is_empty() || !self.rest.is_empty() || self.tokens.len() + usize::from(self.any.is_some()) != 1 {
            return;
        }
        let any = self.any.take().map(|below| ("*".into(), *below));
        let Some((token, below)) = any.or_else(|| self.tokens.drain().next()) else { return };
        let path = self.steps().chain([&*token]).chain(below.steps()).collect::<Vec<_>>().join(".");
        *self = Node { path: path.into(), ..below };
    }

    /// Visits the entries of each pattern that selects an event type. `event_type` is what follows the branch above, if
    /// anything does.
    pub(super) fn visit(&self, event_type: Option<&str>, visit: &mut impl FnMut(&Slots)) {
        let mut left = event_type;
        for own in self.steps() {
            let Some((token, tail)) = left.map(first) else { return };
            if own != "*" && own != token {
                return;
            }
            left = tail;
        }
        let Some((token, tail)) = left.map(first) else { return visit(&self.end) };
        visit(&self.rest);
        for node in self.any.as_deref().into_iter().chain(self.tokens.get(token)) {
            node.visit(tail, visit);
        }
    }
}

/// The tokens of a pattern on the way to its end.
fn path_of(pattern: &[&str]) -> Box<str> {
    pattern.strip_suffix(&[">"]).unwrap_or(pattern).join(".").into()
}

/// The first token, and the text after it if there is more.
fn first(text: &str) -> (&str, Option<&str>) {
    text.split_once('.').map_or((text, None), |(token, tail)| (token, Some(tail)))
}
