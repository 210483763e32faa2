//! The targets of `sidecar/tests/fuzz`, driven by libFuzzer, which looks for inputs that reach new code.

#[path = "../../sidecar/tests/fuzz/targets.rs"]
mod targets;

/// Panics if `bytes` break a promise of the target, or if there is no such target.
pub fn run(target: &str, bytes: &[u8]) {
    let (_, check) = targets::ALL.iter().find(|(name, _)| *name == target).expect("a target of this name");
    check(bytes);
}
