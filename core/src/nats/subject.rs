//! NATS subjects with wildcards: which contain each other, and which overlap. `*` stands for one token, `>` at the end
//! for one or more.

/// Whether `pattern` matches every subject that `subject` matches.
#[must_use]
pub fn is_within(subject: &str, pattern: &str) -> bool {
    let mut tokens = subject.split('.');
    for wanted in pattern.split('.') {
        match (wanted, tokens.next()) {
            (">", Some(_)) => return true,
            (_, None | Some(">")) => return false,
            ("*", Some(_)) => {}
            (literal, Some(token)) if literal == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

/// Whether there is a subject that both match.
#[must_use]
pub fn overlap(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.split('.'), other.split('.'));
    loop {
        match (one.next(), other.next()) {
            (None, None) => return true,
            (None, Some(_)) | (Some(_), None) => return false,
            (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
            (Some(a), Some(b)) if a == b || a == "*" || b == "*" => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn containment() {
        for (subject, pattern, want) in [
            ("a.b", "a.b", true),
            ("a.b", "a.*", true),
            ("a.b", "a.>", true),
            ("a.b.c", "a.>", true),
            ("a.*", "a.*", true),
            ("a.*", "a.>", true),
            ("a.>", "a.>", true),
            ("a.b.>", "a.>", true),
            ("a.b", ">", true),
            (">", ">", true),
            ("a", "a.>", false),
            ("a.b.c", "a.*", false),
            ("a", "a.*", false),
            ("a.>", "a.*", false),
            ("a.*", "a.b", false),
            ("a.>", "a.b.>", false),
            ("*.b", "a.b", false),
            (">", "*", false),
            (">", "a.>", false),
            ("ab.c", "a.>", false),
        ] {
            assert_eq!(is_within(subject, pattern), want, "{subject} within {pattern}");
        }
    }

    #[test]
    fn overlaps() {
        for (one, other, want) in [
            ("a.b", "a.b", true),
            ("a.*", "*.b", true),
            ("a.>", "a.b.c", true),
            (">", "a", true),
            ("a.>", "a", false),
            ("a.*", "a.b.c", false),
            ("a.b", "a.c", false),
            ("a.*.c", "a.b.d", false),
        ] {
            assert_eq!((overlap(one, other), overlap(other, one)), (want, want), "{one} and {other}");
        }
    }

    fn pattern() -> impl Strategy<Value = String> {
        let token = prop_oneof![Just("a"), Just("b"), Just("*")];
        (proptest::collection::vec(token, 1..4), any::<bool>())
            .prop_map(|(tokens, rest)| tokens.join(".") + if rest { ".>" } else { "" })
    }

    fn literal() -> impl Strategy<Value = String> {
        proptest::collection::vec(prop_oneof![Just("a"), Just("b")], 1..5).prop_map(|tokens| tokens.join("."))
    }

    proptest! {
        #[test]
        fn what_is_within_matches_no_more(p in pattern(), q in pattern(), subject in literal()) {
            if is_within(&p, &q) && is_within(&subject, &p) {
                prop_assert!(is_within(&subject, &q));
            }
            if is_within(&subject, &p) && is_within(&subject, &q) {
                prop_assert!(overlap(&p, &q));
            }
            if is_within(&p, &q) {
                prop_assert!(overlap(&p, &q));
            }
        }
    }
}
