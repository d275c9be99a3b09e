//! The names that attributes can have.

/// Whether a text is the name of an attribute.
#[must_use]
pub fn is_attribute(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=64).contains(&name.len()) && name.bytes().all(is_letter) && name != "data"
}

/// What is said of a name that no attribute can have.
pub(crate) fn not_an_attribute(name: &str) -> String {
    let short: String = name.chars().take(64).collect();
    format!("{short:?} is not the name of an attribute: up to 64 lower-case letters and digits, and not \"data\"")
}
