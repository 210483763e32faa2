//! When a certificate ends: the one thing that is to be known of it here, for which no library of X.509 is needed.

use crate::clock::days_since_epoch;

const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `version`, explicitly tagged, and absent in certificates of version 1.
const VERSION: u8 = 0xa0;

/// `notAfter` of a certificate in DER, in Unix seconds (RFC 5280 §4.1).
pub fn not_after(mut der: &[u8]) -> Option<u64> {
    let mut certificate = expect(&mut der, SEQUENCE)?;
    let mut body = expect(&mut certificate, SEQUENCE)?;
    if body.first() == Some(&VERSION) {
        take(&mut body)?;
    }
    let (_serial_number, _signature, _issuer) = (take(&mut body)?, take(&mut body)?, take(&mut body)?);
    let mut validity = expect(&mut body, SEQUENCE)?;
    let _not_before = take(&mut validity)?;
    let (tag, time) = take(&mut validity)?;
    // RFC 5280 §4.1.2.5: in UTC, with seconds, and without fractions of them.
    let digits = time.strip_suffix(b"Z").filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    let (year, rest) = match (tag, digits.len()) {
        (UTC_TIME, 12) => {
            let year = number(&digits[..2]);
            (if year < 50 { 2000 + year } else { 1900 + year }, &digits[2..])
        }
        (GENERALIZED_TIME, 14) => (number(&digits[..4]), &digits[4..]),
        _ => return None,
    };
    let [month, day, hour, minute, second] = std::array::from_fn(|at| number(&rest[2 * at..2 * at + 2]));
    let plausible =
        year >= 1970 && (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 61;
    plausible.then(|| days_since_epoch(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

fn number(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
}

fn expect<'d>(der: &mut &'d [u8], wanted: u8) -> Option<&'d [u8]> {
    take(der).filter(|(tag, _)| *tag == wanted).map(|(_, content)| content)
}

/// The next element's tag and content (X.690 §8.1), of which only lengths that fit any certificate are read.
fn take<'d>(der: &mut &'d [u8]) -> Option<(u8, &'d [u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first >= 0x80 {
        let (digits, after) =
            rest.split_at_checked(usize::from(first & 0x7f)).filter(|(d, _)| (1..=3).contains(&d.len()))?;
        length = digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit));
        rest = after;
    }
    let (content, rest) = rest.split_at_checked(length)?;
    *der = rest;
    Some((tag, content))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn certificate(year: i32) -> Vec<u8> {
        let mut params = CertificateParams::new(["a.example".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 3, 1);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn both_forms_of_time_are_read() {
        // RFC 5280 §4.1.2.5: UTCTime until 2049, GeneralizedTime from then on.
        assert_eq!(not_after(&certificate(2049)), Some(2_498_169_600));
        assert_eq!(not_after(&certificate(2050)), Some(2_529_705_600));
        assert_eq!(not_after(&certificate(4096)), Some(67_095_302_400));
    }

    #[test]
    fn a_certificate_that_breaks_off_has_no_end() {
        let whole = certificate(2030);
        assert!((0..whole.len()).all(|length| not_after(&whole[..length]).is_none()));
    }

    proptest! {
        #[test]
        fn nothing_in_a_certificate_is_out_of_bounds(at in 0..400_usize, byte in any::<u8>(), junk in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut changed = certificate(2030);
            let at = at % changed.len();
            changed[at] = byte;
            let _ = not_after(&changed);
            let _ = not_after(&junk);
        }
    }
}
