//! W3C Trace Context: the trace goes on, with a span of ours between the caller's and the app's.

use super::head::Field;

/// Header names, by which fields are found.
const PARENT: &str = "traceparent";
const STATE: &str = "tracestate";
/// Version, trace id, span id, flags.
const LENGTH: usize = 55;

/// Random bytes for one request.
#[derive(Clone, Copy, Debug)]
pub struct Seed(pub [u64; 3]);

/// What one request's fields say of its trace.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context<'h> {
    parent: Option<&'h [u8]>,
    /// More than one, or one that is not understood, begins a new trace (Trace Context §4.3).
    broken: bool,
}

/// Whether this field is ours to write.
pub fn is_context(name: &str) -> bool {
    matches!(name.len(), 10 | 11) && (name.eq_ignore_ascii_case(PARENT) || name.eq_ignore_ascii_case(STATE))
}

/// What vendors add.
pub fn is_state(name: &str) -> bool {
    name.eq_ignore_ascii_case(STATE)
}

impl<'h> Context<'h> {
    pub fn look_at(&mut self, field: &Field<'h>) {
        if field.name.eq_ignore_ascii_case(PARENT) {
            self.broken |= self.parent.is_some() || !is_valid(field.value);
            self.parent = Some(field.value);
        }
    }

    /// The trace that goes on, if one does; vendors' state goes with it only.
    pub fn continued(&self) -> Option<&'h [u8]> {
        self.parent.filter(|_| !self.broken)
    }

    /// The value for the app: the caller's trace and flags, else a trace of its own that is sampled, so that it does not silence the app.
    pub fn value(&self, seed: Seed) -> [u8; LENGTH] {
        let mut value = *b"00-00000000000000000000000000000000-0000000000000000-01";
        let Seed([high, low, span]) = seed;
        if let Some(parent) = self.continued() {
            value[3..35].copy_from_slice(&parent[3..35]);
            value[53..].copy_from_slice(&parent[53..55]);
        } else {
            write_hex(high.max(1), &mut value[3..19]);
            write_hex(low, &mut value[19..35]);
        }
        write_hex(span.max(1), &mut value[36..52]);
        value
    }
}

/// §3.2: version 00 is exactly this long; later ones may go on behind another dash, and `ff` is none.
fn is_valid(value: &[u8]) -> bool {
    let Some(known) = value.get(..LENGTH) else { return false };
    let hex = |part: &[u8]| part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let parts = [&known[..2], &known[3..35], &known[36..52], &known[53..]];
    let dashes = [2, 35, 52].iter().all(|at| known[*at] == b'-');
    let some = |part: &[u8]| part.iter().any(|byte| *byte != b'0');
    let ends = value.len() == LENGTH || (&known[..2] != b"00" && value[LENGTH] == b'-');
    dashes && parts.iter().all(|part| hex(part)) && some(parts[1]) && some(parts[2]) && parts[0] != b"ff" && ends
}

fn write_hex(number: u64, out: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (at, digit) in out.iter_mut().rev().enumerate() {
        *digit = DIGITS[usize::try_from(number >> (4 * at) & 15).unwrap_or_default()];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT_VALUE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const SEED: Seed = Seed([1, 2, 3]);

    fn value(parents: &[&str]) -> String {
        let mut context = Context::default();
        for parent in parents {
            context.look_at(&Field { name: "TraceParent", value: parent.as_bytes() });
        }
        String::from_utf8(context.value(SEED).to_vec()).unwrap()
    }

    #[test]
    fn a_trace_goes_on_with_another_span() {
        assert_eq!(value(&[PARENT_VALUE]), "00-0af7651916cd43dd8448eb211c80319c-0000000000000003-01");
        let unsampled = PARENT_VALUE.replace("-01", "-00");
        assert_eq!(value(&[&unsampled]), "00-0af7651916cd43dd8448eb211c80319c-0000000000000003-00");
        let later = format!("{}-more", PARENT_VALUE.replacen("00", "01", 1));
        assert_eq!(value(&[&later]), "00-0af7651916cd43dd8448eb211c80319c-0000000000000003-01");
    }

    #[test]
    fn without_one_that_is_understood_a_trace_begins() {
        let fresh = "00-00000000000000010000000000000002-0000000000000003-01";
        assert_eq!(value(&[]), fresh);
        assert_eq!(value(&[PARENT_VALUE, PARENT_VALUE]), fresh, "twice");
        for broken in [
            "",
            "00",
            &PARENT_VALUE[1..],
            &format!("{PARENT_VALUE}-x"),
            &format!("{PARENT_VALUE}0"),
            &PARENT_VALUE.to_uppercase(),
            &PARENT_VALUE.replacen("00", "ff", 1),
            &PARENT_VALUE.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &PARENT_VALUE.replace("b7ad6b7169203331", &"0".repeat(16)),
            &PARENT_VALUE.replace('-', "_"),
            &PARENT_VALUE.replace("af", "g7"),
            &format!("{}\u{e9}", &PARENT_VALUE[..54]),
        ] {
            assert_eq!(value(&[broken]), fresh, "{broken}");
        }
    }

    #[test]
    fn ids_are_never_zero() {
        let zero = Context::default().value(Seed([0; 3]));
        assert!(is_valid(&zero));
        let most = Context::default().value(Seed([u64::MAX; 3]));
        assert!(is_valid(&most) && most.starts_with(b"00-ffffffffffffffffffffffffffffffff-ffffffffffffffff"));
    }
}
