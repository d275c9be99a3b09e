//! The ways in which an endpoint answers.

use std::fmt;
use std::str::FromStr;

/// How an endpoint answers: the last part of its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// The endpoint answers 200 at once.
    Ok,
    /// The endpoint answers 200 after this many milliseconds.
    Slow(u64),
    /// The endpoint never answers.
    Hang,
    /// The endpoint answers 503 to this many of a hundred requests, by chance, and 200 to the others.
    Failing(u32),
    /// The endpoint answers 503 after this many milliseconds.
    Refusing(u64),
    /// The endpoint answers 503 while the gate is closed, else 200: see `POST /gate/open` and `/gate/closed`.
    Gate,
}

impl fmt::Display for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("ok"),
            Self::Slow(millis) => write!(f, "slow-{millis}"),
            Self::Hang => f.write_str("hang"),
            Self::Failing(percent) => write!(f, "failing-{percent}"),
            Self::Refusing(millis) => write!(f, "refusing-{millis}"),
            Self::Gate => f.write_str("gate"),
        }
    }
}

/// The error for a text that is no behaviour.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unknown;

impl FromStr for Behaviour {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<Self, Unknown> {
        let (name, number) = text.split_once('-').unwrap_or((text, ""));
        match name {
            "ok" => Ok(Self::Ok),
            "hang" => Ok(Self::Hang),
            "gate" => Ok(Self::Gate),
            "slow" => number.parse().map(Self::Slow).map_err(|_| Unknown),
            "refusing" => number.parse().map(Self::Refusing).map_err(|_| Unknown),
            "failing" => number.parse().map(Self::Failing).map_err(|_| Unknown),
            _ => Err(Unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let (slow, refusing) = (Behaviour::Slow(50), Behaviour::Refusing(50));
        for behaviour in [Behaviour::Ok, slow, Behaviour::Hang, Behaviour::Failing(20), refusing, Behaviour::Gate] {
            assert_eq!(behaviour.to_string().parse(), Ok(behaviour));
        }
        assert_eq!("slow-x".parse::<Behaviour>(), Err(Unknown));
        assert_eq!("fast".parse::<Behaviour>(), Err(Unknown));
    }
}
