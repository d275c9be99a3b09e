//! NATS subjects with wildcards: which contain each other, and what two have in common. `*` stands for one token, `>` at the end
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
    intersection(one, other).is_some()
}

/// Returns the pattern of the subjects that both match, or none if there is no such subject.
#[must_use]
pub fn intersection(one: &str, other: &str) -> Option<String> {
    let (mut one, mut other) = (one.split('.'), other.split('.'));
    let mut both = Vec::new();
    loop {
        match (one.next(), other.next()) {
            (None, None) => break,
            (Some(">"), Some(token)) => {
                both.push(token);
                both.extend(other.by_ref());
                break;
            }
            (Some(token), Some(">")) => {
                both.push(token);
                both.extend(one.by_ref());
                break;
            }
            (Some("*"), Some(token)) | (Some(token), Some("*")) => both.push(token),
            (Some(token), Some(same)) if token == same => both.push(token),
            _ => return None,
        }
    }
    Some(both.join("."))
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

    #[test]
    fn intersections() {
        for (one, other, want) in [
            ("a.>", "a.b", "a.b"),
            ("a.>", "*.b.>", "a.b.>"),
            (">", "a.*", "a.*"),
            ("a.*.c", "*.b.*", "a.b.c"),
            ("a.>", ">", "a.>"),
        ] {
            assert_eq!(
                [intersection(one, other), intersection(other, one)],
                [Some(want.to_owned()), Some(want.to_owned())]
            );
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
            let in_both = is_within(&subject, &p) && is_within(&subject, &q);
            prop_assert_eq!(intersection(&p, &q).is_some_and(|both| is_within(&subject, &both)), in_both);
            if is_within(&p, &q) {
                prop_assert!(overlap(&p, &q));
            }
        }
    }
}
