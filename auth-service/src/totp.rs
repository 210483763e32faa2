//! One-time passwords by time (RFC 6238): six digits, thirty seconds, SHA-1, which is what authenticator apps read from a QR code.

use aws_lc_rs::hmac::{HMAC_SHA1_FOR_LEGACY_USE_ONLY, Key, sign};
use qrcode::render::svg;
use qrcode::{EcLevel, QrCode};
use subtle::ConstantTimeEq;
use url::form_urlencoded::byte_serialize;

/// 160 bits, as RFC 4226 §4 recommends.
pub const SEED_LEN: usize = 20;

const STEP_SECONDS: u64 = 30;
const DIGITS: usize = 6;

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// The time step whose code this is: the current one or its neighbours, since clocks differ and people type slowly (RFC 6238 §5.2).
pub fn step_of(seed: &[u8], code: &str, now: u64) -> Option<u64> {
    let current = now / STEP_SECONDS;
    let steps = [current.saturating_sub(1), current, current + 1];
    // Every step is compared, so that time does not tell which one it was.
    steps.into_iter().fold(None, |found, step| {
        if code_at(seed, step).as_bytes().ct_eq(code.as_bytes()).into() { Some(step) } else { found }
    })
}

/// The code that an app shows at this time, Unix seconds.
pub fn code(seed: &[u8], now: u64) -> String {
    code_at(seed, now / STEP_SECONDS)
}

/// HOTP (RFC 4226 §5.3).
fn code_at(seed: &[u8], step: u64) -> String {
    let tag = sign(&Key::new(HMAC_SHA1_FOR_LEGACY_USE_ONLY, seed), &step.to_be_bytes());
    let tag = tag.as_ref();
    let offset = usize::from(tag[tag.len() - 1] & 0xf);
    let number = tag[offset..offset + 4].iter().fold(0u32, |number, byte| number << 8 | u32::from(*byte)) & 0x7fff_ffff;
    format!("{:06}", number % 1_000_000)
}

/// What a person typed, without the spaces that apps show; `None` if it cannot be a code.
pub fn parse(typed: &str) -> Option<String> {
    let digits: String = typed.chars().filter(|c| !c.is_whitespace()).collect();
    (digits.len() == DIGITS && digits.bytes().all(|b| b.is_ascii_digit())).then_some(digits)
}

/// RFC 4648 §6, without padding.
pub fn base32(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(5) * 8);
    let (mut held, mut bits) = (0u32, 0);
    for byte in bytes {
        held = held << 8 | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(char::from(BASE32[(held >> bits & 31) as usize]));
        }
    }
    if bits > 0 {
        text.push(char::from(BASE32[(held << (5 - bits) & 31) as usize]));
    }
    text
}

/// The address in the QR code, which every authenticator app reads.
pub fn provisioning_uri(issuer: &str, account: &str, seed: &[u8]) -> String {
    // `+` for a space is a form's way; in a path it would be shown as it is.
    let escape = |text: &str| byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20");
    let (issuer, account, secret) = (escape(issuer), escape(account), base32(seed));
    format!("otpauth://totp/{issuer}:{account}?secret={secret}&issuer={issuer}")
}

/// Black on white whatever the page's colours: not every reader takes the inverse. `None`: too long for a QR code.
pub fn qr_svg(text: &str) -> Option<String> {
    let code = QrCode::with_error_correction_level(text, EcLevel::M).ok()?;
    let image = code
        .render::<svg::Color<'_>>()
        .min_dimensions(220, 220)
        .dark_color(svg::Color("#000"))
        .light_color(svg::Color("#fff"))
        .build();
    // Inside HTML there is no XML declaration.
    image.find("<svg").map(|start| image[start..].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_rfc() {
        // RFC 6238 appendix B, of whose eight digits these are the last six.
        let seed = b"12345678901234567890";
        for (time, expected) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(code(seed, time), expected);
        }
    }

    #[test]
    fn a_code_counts_one_step_early_or_late_and_no_more() {
        let seed = [7; SEED_LEN];
        let now = 1_000_000_000;
        for (at, counts) in [(now - 60, false), (now - 30, true), (now, true), (now + 30, true), (now + 60, false)] {
            let step = step_of(&seed, &code(&seed, at), now);
            assert_eq!(step, counts.then_some(at / 30), "{at}");
        }
        assert_eq!(step_of(&[8; SEED_LEN], &code(&seed, now), now), None);
        assert_eq!(step_of(&seed, "", now), None);
    }

    #[test]
    fn base32_is_that_of_the_rfc() {
        for (plain, expected) in [("", ""), ("f", "MY"), ("fo", "MZXQ"), ("foo", "MZXW6"), ("foobar", "MZXW6YTBOI")] {
            assert_eq!(base32(plain.as_bytes()), expected);
        }
    }

    #[test]
    fn a_name_cannot_break_out_of_the_address() {
        let uri = provisioning_uri("A & B", "ann?secret=x&issuer=y/#", &[0; 5]);
        assert_eq!(
            uri,
            "otpauth://totp/A%20%26%20B:ann%3Fsecret%3Dx%26issuer%3Dy%2F%23?secret=AAAAAAAA&issuer=A%20%26%20B"
        );
        let svg = qr_svg(&uri).unwrap();
        assert!(svg.starts_with("<svg") && !svg.contains("style="), "{svg}");
    }

    #[test]
    fn what_people_type_is_understood_or_refused() {
        assert_eq!(parse(" 123 456 "), Some("123456".to_owned()));
        for bad in ["", "12345", "1234567", "12345a", "١٢٣٤٥٦"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
