//! The parser: precedence climbing over the tokens.

use std::borrow::Cow;

use super::function::Function;
use super::pattern::Pattern;
use super::token::{Placed, Token, tokens, unquoted};
use super::tree::{Arithmetic, Comparison, Logic, Node};
use super::value::Value;
use crate::expression::bounds::check_length;
use crate::expression::{CompileError, is_attribute, not_an_attribute};

/// The deepest nesting of brackets and signs, and the deepest syntax tree: a list of many ORs is a deep tree, too.
const MAX_NESTING: usize = 40;
const MAX_DEPTH: usize = 250;

/// How tightly the operators bind.
mod binding {
    pub(super) const XOR: u8 = 1;
    pub(super) const OR: u8 = 2;
    pub(super) const AND: u8 = 3;
    pub(super) const COMPARISON: u8 = 4;
    pub(super) const SUM: u8 = 5;
    pub(super) const PRODUCT: u8 = 6;
    pub(super) const IN: u8 = 7;
    pub(super) const LIKE: u8 = 8;
    pub(super) const UNARY: u8 = 9;
}

/// The words that are no attributes.
const KEYWORDS: [&str; 9] = ["AND", "OR", "XOR", "NOT", "LIKE", "EXISTS", "IN", "TRUE", "FALSE"];

/// An operator after a value.
#[derive(Clone, Copy)]
enum Infix {
    Logic(Logic),
    Compare(Comparison),
    Calculate(Arithmetic),
    Like { negated: bool },
    In { negated: bool },
}

/// Parses an expression. `lenient` lets functions through that don't exist, and attributes that no event has.
pub(super) fn parse(text: &str, lenient: bool) -> Result<Node, CompileError> {
    check_length(text)?;
    let mut parser = Parser { text, tokens: tokens(text)?, next: 0, depth: 0, lenient };
    let node = parser.expression(0)?;
    match parser.peek() {
        Token::End => Ok(node.0),
        _ => Err(parser.error("expected an operator or the end")),
    }
}

/// A node and the depth of its tree.
type Deep = (Node, usize);

struct Parser<'a> {
    text: &'a str,
    /// The last one is the end.
    tokens: Vec<Placed<'a>>,
    next: usize,
    depth: usize,
    lenient: bool,
}

impl<'a> Parser<'a> {
    fn here(&self) -> Placed<'a> {
        self.tokens[self.next.min(self.tokens.len() - 1)]
    }

    fn peek(&self) -> Token<'a> {
        self.here().token
    }

    fn take(&mut self) -> Token<'a> {
        let token = self.peek();
        self.next += 1;
        token
    }

    fn error(&self, message: impl Into<String>) -> CompileError {
        CompileError::at(self.text, self.here().at, message)
    }

    fn is_word(&self, ahead: usize, word: &str) -> bool {
        let token = self.tokens.get(self.next + ahead).map(|placed| placed.token);
        matches!(token, Some(Token::Word(found)) if found.eq_ignore_ascii_case(word))
    }

    fn expect(&mut self, sign: &'static str) -> Result<(), CompileError> {
        if self.peek() == Token::Sign(sign) {
            self.next += 1;
            return Ok(());
        }
        Err(self.error(format!("expected {sign:?}")))
    }

    fn within(&self, most: usize, depth: usize) -> Result<(), CompileError> {
        if depth > most {
            return Err(self.error(format!("the expression is nested more than {most} deep")));
        }
        Ok(())
    }

    /// Parses an expression of operators that bind at least this tightly.
    fn expression(&mut self, least: u8) -> Result<Deep, CompileError> {
        self.depth += 1;
        self.within(MAX_NESTING, self.depth)?;
        let (mut left, mut depth) = self.operand()?;
        while let Some((infix, binding)) = self.infix().filter(|(_, binding)| *binding >= least) {
            self.next += 1 + usize::from(matches!(infix, Infix::Like { negated: true } | Infix::In { negated: true }));
            let deeper = |right: usize| depth.max(right) + 1;
            (left, depth) = match infix {
                Infix::Like { negated } => {
                    let Token::Quoted(pattern) = self.peek() else {
                        return Err(self.error("expected a quoted pattern after LIKE"));
                    };
                    self.next += 1;
                    (Node::Like { value: Box::new(left), pattern: Pattern::of(&unquoted(pattern)), negated }, depth + 1)
                }
                Infix::In { negated } => {
                    self.expect("(")?;
                    let (set, deepest) = self.list()?;
                    (Node::In { value: Box::new(left), set, negated }, deeper(deepest))
                }
                Infix::Logic(operator) => {
                    let (right, deep) = self.expression(binding + 1)?;
                    (Node::Logic(operator, Box::new([left, right])), deeper(deep))
                }
                Infix::Compare(operator) => {
                    let (right, deep) = self.expression(binding + 1)?;
                    (Node::Compare(operator, Box::new([left, right])), deeper(deep))
                }
                Infix::Calculate(operator) => {
                    let (right, deep) = self.expression(binding + 1)?;
                    (Node::Calculate(operator, Box::new([left, right])), deeper(deep))
                }
            };
            self.within(MAX_DEPTH, depth)?;
        }
        self.depth -= 1;
        Ok((left, depth))
    }

    /// The operator that comes next, and how tightly it binds.
    fn infix(&self) -> Option<(Infix, u8)> {
        let negated = self.is_word(0, "NOT");
        Some(match self.peek() {
            Token::Word(_) if self.is_word(usize::from(negated), "LIKE") => (Infix::Like { negated }, binding::LIKE),
            Token::Word(_) if self.is_word(usize::from(negated), "IN") => (Infix::In { negated }, binding::IN),
            Token::Word(_) if self.is_word(0, "AND") => (Infix::Logic(Logic::And), binding::AND),
            Token::Word(_) if self.is_word(0, "OR") => (Infix::Logic(Logic::Or), binding::OR),
            Token::Word(_) if self.is_word(0, "XOR") => (Infix::Logic(Logic::Xor), binding::XOR),
            Token::Sign(sign) => match sign {
                "=" => (Infix::Compare(Comparison::Equal), binding::COMPARISON),
                "!=" | "<>" => (Infix::Compare(Comparison::NotEqual), binding::COMPARISON),
                "<" => (Infix::Compare(Comparison::Less), binding::COMPARISON),
                "<=" => (Infix::Compare(Comparison::LessOrEqual), binding::COMPARISON),
                ">" => (Infix::Compare(Comparison::Greater), binding::COMPARISON),
                ">=" => (Infix::Compare(Comparison::GreaterOrEqual), binding::COMPARISON),
                "+" => (Infix::Calculate(Arithmetic::Add), binding::SUM),
                "-" => (Infix::Calculate(Arithmetic::Subtract), binding::SUM),
                "*" => (Infix::Calculate(Arithmetic::Multiply), binding::PRODUCT),
                "/" => (Infix::Calculate(Arithmetic::Divide), binding::PRODUCT),
                "%" => (Infix::Calculate(Arithmetic::Remainder), binding::PRODUCT),
                _ => return None,
            },
            _ => return None,
        })
    }

    fn operand(&mut self) -> Result<Deep, CompileError> {
        let placed = self.here();
        match self.take() {
            Token::Quoted(quoted) => Ok((Node::Literal(Value::Text(Cow::Owned(unquoted(quoted)))), 1)),
            Token::Sign("(") => {
                let inner = self.expression(0)?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Sign(sign @ ("-" | "+")) => {
                if let Token::Word(digits) = self.peek()
                    && is_integer(digits)
                {
                    self.next += 1;
                    return self.integer(&format!("{sign}{digits}"), placed.at);
                }
                if sign == "+" {
                    return Err(self.error("expected an integer after this sign"));
                }
                let (node, depth) = self.expression(binding::UNARY)?;
                Ok((Node::Negate(Box::new(node)), depth + 1))
            }
            Token::Word(word) => self.word(word, placed.at),
            Token::Sign(_) | Token::End => Err(CompileError::at(self.text, placed.at, "expected a value")),
        }
    }

    fn word(&mut self, word: &str, at: usize) -> Result<Deep, CompileError> {
        let is = |keyword: &str| word.eq_ignore_ascii_case(keyword);
        if is("NOT") {
            let (node, depth) = self.expression(binding::UNARY)?;
            return Ok((Node::Not(Box::new(node)), depth + 1));
        }
        if is("TRUE") || is("FALSE") {
            return Ok((Node::Literal(Value::Boolean(is("TRUE"))), 1));
        }
        if is("EXISTS") {
            let at = self.here().at;
            let Token::Word(name) = self.take() else {
                return Err(CompileError::at(self.text, at, "expected the name of an attribute after EXISTS"));
            };
            return Ok((Node::Exists(self.attribute(name, at)?), 1));
        }
        if is_integer(word) {
            return self.integer(word, at);
        }
        if self.peek() == Token::Sign("(") && !KEYWORDS.iter().any(|keyword| is(keyword)) {
            self.next += 1;
            return self.call(word, at);
        }
        Ok((Node::Attribute(self.attribute(word, at)?), 1))
    }

    fn attribute(&self, name: &str, at: usize) -> Result<Box<str>, CompileError> {
        if KEYWORDS.iter().any(|keyword| name.eq_ignore_ascii_case(keyword)) {
            return Err(CompileError::at(self.text, at, format!("expected a value, found {}", name.to_uppercase())));
        }
        let attribute = name.to_ascii_lowercase();
        if name.contains('_') || !self.lenient && !is_attribute(&attribute) {
            return Err(CompileError::at(self.text, at, not_an_attribute(name)));
        }
        Ok(attribute.into())
    }

    fn integer(&self, digits: &str, at: usize) -> Result<Deep, CompileError> {
        let number = digits.parse().map_err(|_| CompileError::at(self.text, at, "not an integer of 32 bits"))?;
        Ok((Node::Literal(Value::Integer(number)), 1))
    }

    fn call(&mut self, name: &str, at: usize) -> Result<Deep, CompileError> {
        let (arguments, deepest) = if self.peek() == Token::Sign(")") {
            self.next += 1;
            (Vec::new(), 0)
        } else {
            self.list()?
        };
        if !name.chars().all(|c| c.is_ascii_alphabetic() || c == '_') || name.starts_with('_') {
            return Err(CompileError::at(self.text, at, format!("{name:?} is not the name of a function")));
        }
        let function = Function::find(name, arguments.len());
        if function.is_none() && !self.lenient {
            let message = format!("there is no function {} with {} arguments", name.to_uppercase(), arguments.len());
            return Err(CompileError::at(self.text, at, message));
        }
        Ok((Node::Call { function, arguments }, deepest + 1))
    }

    /// A list in brackets, without the opening one, and the depth of its deepest node.
    fn list(&mut self) -> Result<(Vec<Node>, usize), CompileError> {
        let (mut nodes, mut deepest) = (Vec::new(), 0);
        loop {
            let (node, depth) = self.expression(0)?;
            nodes.push(node);
            deepest = deepest.max(depth);
            match self.peek() {
                Token::Sign(",") => self.next += 1,
                Token::Sign(")") => {
                    self.next += 1;
                    return Ok((nodes, deepest));
                }
                _ => return Err(self.error("expected \",\" or \")\"")),
            }
        }
    }
}

fn is_integer(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_digit())
}
