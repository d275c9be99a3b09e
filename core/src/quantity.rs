//! Amounts of bytes as people write them, both in Kubernetes objects and in settings.

/// Reads an amount of bytes: 1 to 15 digits, at most three decimals, then optionally one of k, M, G, T, P, E (powers of
/// 1000) or Ki, Mi, Gi, Ti, Pi, Ei (powers of 1024). A fraction of a byte is rounded up. Returns `None` if the text has
/// another form or the amount exceeds 64 bits.
#[must_use]
pub fn parse(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, decimals) = number.split_once('.').map_or((number, None), |(w, d)| (w, Some(d)));
    let thousandths = match decimals {
        Some(d) if (1..=3).contains(&d.len()) => d.parse::<u128>().ok()? * 10_u128.pow(3 - d.len() as u32),
        Some(_) => return None,
        None => 0,
    };
    if !(1..=15).contains(&whole.len()) {
        return None;
    }
    let unit: u128 = match suffix {
        "" => 1,
        "k" => 1000,
        "M" => 1000_u128.pow(2),
        "G" => 1000_u128.pow(3),
        "T" => 1000_u128.pow(4),
        "P" => 1000_u128.pow(5),
        "E" => 1000_u128.pow(6),
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        "Pi" => 1 << 50,
        "Ei" => 1 << 60,
        _ => return None,
    };
    let thousandths = whole.parse::<u128>().ok()? * 1000 + thousandths;
    u64::try_from((thousandths * unit).div_ceil(1000)).ok()
}
