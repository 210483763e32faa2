//! Durations, sizes and origins as policies write them.

use url::Url;

use super::Rejected;

/// `1h30m`, `15m`, `60s` (Gateway API, GEP-2257) in whole seconds within bounds.
pub(crate) fn seconds(field: &str, text: &str, min: u64, max: u64) -> Result<u64, Rejected> {
    let millis = millis(text)
        .ok_or_else(|| Rejected::new(field, format!("{text:?} is not a duration such as 90s, 15m or 1h30m")))?;
    if millis % 1000 != 0 {
        return Err(Rejected::new(field, format!("{text} is not a whole number of seconds")));
    }
    let seconds = millis / 1000;
    if seconds < min {
        return Err(Rejected::new(field, format!("{text} is too short: at least {min}s")));
    }
    if seconds > max {
        return Err(Rejected::new(field, format!("{text} is too long: at most {max}s")));
    }
    Ok(seconds)
}

/// `^([0-9]{1,5}(h|m|s|ms)){1,4}$`
fn millis(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total = 0;
    for _ in 0..4 {
        if rest.is_empty() {
            break;
        }
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if !(1..=5).contains(&digits) {
            return None;
        }
        let (number, after) = rest.split_at(digits);
        let units = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1000)];
        let (unit, scale) = units.into_iter().find(|(unit, _)| after.starts_with(unit))?;
        total += number.parse::<u64>().ok()? * scale;
        rest = &after[unit.len()..];
    }
    (rest.is_empty() && !text.is_empty()).then_some(total)
}

/// `32Ki`, `10Mi`, `1Gi`, or plain bytes, within bounds.
pub(super) fn bytes(field: &str, text: &str, min: u64, max: u64) -> Result<u64, Rejected> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let shift = match unit {
        "" => Some(0),
        "Ki" => Some(10),
        "Mi" => Some(20),
        "Gi" => Some(30),
        _ => None,
    };
    let number = if digits <= 10 { number.parse::<u64>().ok() } else { None };
    let bytes = number.zip(shift).map(|(number, shift)| number << shift);
    let bytes = bytes.ok_or_else(|| Rejected::new(field, format!("{text:?} is not a size such as 32Ki or 10Mi")))?;
    if !(min..=max).contains(&bytes) {
        return Err(Rejected::new(field, format!("{text} is not between {min} and {max} bytes")));
    }
    Ok(bytes)
}

/// An origin in exactly the form in which browsers write it (RFC 6454 §6.2), since it is compared as text.
pub(super) fn origin(field: &str, text: &str) -> Result<(), Rejected> {
    let sentence = "an origin is https://host[:port], without a path";
    let url = Url::parse(text).map_err(|_| Rejected::new(field, sentence))?;
    let canonical = url.origin().ascii_serialization();
    if canonical != text {
        let hint = if canonical == "null" { String::new() } else { format!(": did you mean {canonical}?") };
        return Err(Rejected::new(field, format!("{sentence}{hint}")));
    }
    match (url.scheme(), url.host_str()) {
        ("https", Some(_)) => Ok(()),
        ("http", Some(host)) if is_localhost(host) => Ok(()),
        ("http", Some(_)) => {
            Err(Rejected::new(field, "http is for localhost only: over it, cookies can be read on the way"))
        }
        _ => Err(Rejected::new(field, sentence)),
    }
}

fn is_localhost(host: &str) -> bool {
    matches!(host, "localhost" | "127.0.0.1" | "[::1]") || host.ends_with(".localhost")
}
