//! How surely somebody is who they say: the values of `acr`, weakest first.

/// One factor, a password.
pub const SINGLE_FACTOR: &str = "pwd";
/// Two factors of different kinds, or a passkey that has verified its user.
pub const MULTI_FACTOR: &str = "mfa";

/// Whether a sign-in of this `acr` is good enough where `demanded` is asked for. A value that is none of ours is only met by itself.
pub fn meets(held: &str, demanded: &str) -> bool {
    held == demanded || (held == MULTI_FACTOR && demanded == SINGLE_FACTOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_factors_are_as_good_as_one_and_not_the_other_way_round() {
        assert!(meets("mfa", "pwd") && meets("pwd", "pwd") && meets("x", "x"));
        assert!(!meets("pwd", "mfa") && !meets("mfa", "x") && !meets("", "pwd"));
    }
}
