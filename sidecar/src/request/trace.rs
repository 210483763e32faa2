//! W3C Trace Context: the caller's trace goes on, as it came.
//!
//! No span of ours stands in between, since nobody would ever be told of it, and no trace begins here: a made-up one would decide for the app
//! what is sampled.

use super::head::Field;

/// Header names, by which fields are found.
const PARENT: &str = "traceparent";
const STATE: &str = "tracestate";
/// Version, trace id, span id, flags.
const LENGTH: usize = 55;

/// What one request's fields say of its trace.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context<'h> {
    parent: Option<&'h [u8]>,
    /// More than one, or one that is not understood, is none (Trace Context §4.3).
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

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT_VALUE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn continued(parents: &[&str]) -> Option<String> {
        let mut context = Context::default();
        for parent in parents {
            context.look_at(&Field { name: "TraceParent", value: parent.as_bytes() });
        }
        context.continued().map(|parent| String::from_utf8(parent.to_vec()).unwrap())
    }

    #[test]
    fn a_trace_goes_on_as_it_came() {
        let unsampled = PARENT_VALUE.replace("-01", "-00");
        let later = format!("{}-more", PARENT_VALUE.replacen("00", "01", 1));
        for parent in [PARENT_VALUE, &unsampled, &later] {
            assert_eq!(continued(&[parent]).as_deref(), Some(parent));
        }
    }

    #[test]
    fn what_is_not_understood_is_no_trace() {
        assert_eq!(continued(&[]), None);
        assert_eq!(continued(&[PARENT_VALUE, PARENT_VALUE]), None, "twice");
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
            assert_eq!(continued(&[broken]), None, "{broken}");
        }
    }
}
