//! Method and path → rule. Pure.

use cloakroom_protocol::path_pattern::Doubt;
use cloakroom_protocol::sidecar_config::{Access, Match, Rule};

use crate::request::cleanse::path::CanonicalPath;

/// The rule that applies, with its place among them, or none: any authenticated caller.
pub fn find<'p>(rules: &'p [Rule], method: &str, path: &CanonicalPath<'_>) -> Option<(usize, &'p Rule)> {
    let matches = |rule: &Rule| rule.matches.iter().any(|wanted| applies(rule.access, wanted, method, path));
    rules.iter().enumerate().find(|(_, rule)| matches(rule))
}

fn applies(access: Access, wanted: &Match, method: &str, path: &CanonicalPath<'_>) -> bool {
    if !wanted.methods.is_empty() && !wanted.methods.iter().any(|m| includes(m, method)) {
        return false;
    }
    let Some(pattern) = &wanted.path else { return true };
    match access {
        // What opens a door must not be stretched, what guards one must not be slipped past.
        Access::Anonymous | Access::Optional => pattern.matches(path.forwarded(), Doubt::Excludes),
        Access::Authenticated | Access::Deny => {
            pattern.matches(path.forwarded(), Doubt::Includes)
                || path.loose().is_some_and(|loose| pattern.matches(loose, Doubt::Includes))
        }
    }
}

/// Apps answer HEAD with the code of GET (RFC 9110 §9.3.2), so a rule about GET is one about HEAD.
fn includes(wanted: &str, method: &str) -> bool {
    wanted == method || (wanted == "GET" && method == "HEAD")
}

#[cfg(test)]
mod tests {
    use cloakroom_protocol::sidecar_config::Require;

    use super::*;
    use crate::request::cleanse::path::canonical;

    fn rule(path: &str, methods: &[&str], access: Access) -> Rule {
        Rule {
            matches: vec![Match {
                path: Some(path.parse().unwrap()),
                methods: methods.iter().map(ToString::to_string).collect(),
            }],
            access,
            require: Require::default(),
            unauthenticated: None,
            outage: None,
        }
    }

    fn access(rules: &[Rule], method: &str, path: &str) -> Access {
        find(rules, method, &canonical(path).unwrap()).map(|(_, rule)| rule.access).unwrap_or_default()
    }

    #[test]
    fn the_first_match_wins_and_no_match_demands_authentication() {
        let rules = [
            rule("/healthz", &[], Access::Anonymous),
            rule("/**", &["GET"], Access::Optional),
            rule("/a", &[], Access::Deny),
        ];
        assert_eq!(access(&rules, "POST", "/healthz"), Access::Anonymous);
        assert_eq!(access(&rules, "GET", "/a"), Access::Optional);
        assert_eq!(access(&rules, "POST", "/a"), Access::Deny);
        assert_eq!(access(&rules, "POST", "/b"), Access::Authenticated);
        assert_eq!(access(&[], "GET", "/"), Access::Authenticated);
    }

    #[test]
    fn other_spellings_do_not_lead_around_a_denial() {
        let rules = [rule("/admin/@me", &[], Access::Deny), rule("/**", &[], Access::Anonymous)];
        for path in [
            "/admin/@me",
            "/admin/%40me",
            "/admin/@me/",
            "//admin/@me",
            "/x/../admin/%40m%65",
            "/admin;v=1/@me",
            "/admin/@me;x",
            "/./admin/@me",
            "/Admin/@me",
            "/ADMIN/@ME/",
            "/%41dmin/%40mE;x",
        ] {
            assert_eq!(access(&rules, "GET", path), Access::Deny, "{path}");
        }
        assert_eq!(access(&rules, "GET", "/admin/you"), Access::Anonymous);
    }

    #[test]
    fn other_spellings_do_not_open_a_door() {
        let rules = [rule("/healthz", &[], Access::Anonymous)];
        for path in ["/healthz/", "/healthz;x", "/healthz%3Bx", "/healthz/x", "/HEALTHZ", "/x/healthz"] {
            assert_eq!(access(&rules, "GET", path), Access::Authenticated, "{path}");
        }
        assert_eq!(access(&rules, "GET", "/h%65althz"), Access::Anonymous);
    }

    #[test]
    fn a_rule_about_get_is_one_about_head() {
        let rules = [rule("/reports", &["GET"], Access::Deny)];
        assert_eq!(access(&rules, "HEAD", "/reports"), Access::Deny);
        assert_eq!(access(&rules, "POST", "/reports"), Access::Authenticated);
    }
}
