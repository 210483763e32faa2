//! Path patterns of a policy's rules: `/orders`, `/orders/{id}`, `/files/*/raw`, `/admin/**`.
//!
//! `{name}` and `*` stand for one segment that is not empty, `**` (last only) for any number of segments, none included. Patterns are
//! compared with the canonical path, which is also the one that is forwarded. Letters' case matters to a rule that opens, and not to one that
//! guards: to many an app `/Admin` is `/admin`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PathPattern {
    segments: Vec<Segment>,
    /// Ends in `**`.
    open: bool,
    trailing_slash: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    /// `{name}`, or `*` where the name is empty.
    Any(String),
}

/// Which way a doubt falls. `/admin/` or `/ADMIN` may or may not be the app's `/admin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// For rules that open: match only what is written.
    Excludes,
    /// For rules that demand or deny: neither a trailing slash nor another case leads around them.
    Includes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    #[error("a path pattern starts with /")]
    NotAbsolute,
    #[error("** stands for the rest of the path and can only be the last segment")]
    OpenInside,
    #[error("* and {{name}} stand for a whole segment: /files/*, /orders/{{id}}")]
    PartialWildcard,
    #[error("a path pattern has no empty, . or .. segments")]
    EmptySegment,
    #[error("a path pattern is written decoded, in visible ASCII, without ? # \\ ; or %")]
    Character,
}

impl PathPattern {
    /// `path` is canonical: starts with `/`, no empty segment but a last one, no dot segments, unreserved characters decoded.
    pub fn matches(&self, path: &str, doubt: Doubt) -> bool {
        let Some(rest) = path.strip_prefix('/') else { return false };
        let (rest, slash) = match rest.strip_suffix('/') {
            Some(rest) => (rest, true),
            None => (rest, rest.is_empty()),
        };
        let mut given = rest.split('/').filter(|segment| !segment.is_empty());
        let is_same = |literal: &str, segment: &str| match doubt {
            Doubt::Excludes => literal == segment,
            // Patterns are ASCII, so no other letter can be meant.
            Doubt::Includes => literal.eq_ignore_ascii_case(segment),
        };
        for wanted in &self.segments {
            match (wanted, given.next()) {
                (Segment::Literal(literal), Some(segment)) if is_same(literal, segment) => {}
                (Segment::Any(_), Some(_)) => {}
                _ => return false,
            }
        }
        if self.open {
            return true;
        }
        given.next().is_none() && (doubt == Doubt::Includes || slash == self.trailing_slash)
    }
}

impl FromStr for PathPattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = text.strip_prefix('/').ok_or(InvalidPattern::NotAbsolute)?;
        if text.bytes().any(|b| !b.is_ascii_graphic() || b"?#\\;%".contains(&b)) {
            return Err(InvalidPattern::Character);
        }
        let (rest, open) = match rest.strip_suffix("**") {
            Some("") => ("", true),
            Some(before) => (before.strip_suffix('/').ok_or(InvalidPattern::PartialWildcard)?, true),
            None => (rest, false),
        };
        let (rest, trailing_slash) = match rest.strip_suffix('/') {
            Some(before) if !open => (before, true),
            _ => (rest, rest.is_empty()),
        };
        let segments =
            if rest.is_empty() { Ok(Vec::new()) } else { rest.split('/').map(segment).collect::<Result<Vec<_>, _>>() }?;
        Ok(Self { segments, open, trailing_slash })
    }
}

fn segment(text: &str) -> Result<Segment, InvalidPattern> {
    if matches!(text, "" | "." | "..") {
        return Err(InvalidPattern::EmptySegment);
    }
    if text == "**" {
        return Err(InvalidPattern::OpenInside);
    }
    if text == "*" {
        return Ok(Segment::Any(String::new()));
    }
    if let Some(name) = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')) {
        let named = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        return named.then(|| Segment::Any(name.to_owned())).ok_or(InvalidPattern::PartialWildcard);
    }
    if text.contains(['*', '{', '}']) {
        return Err(InvalidPattern::PartialWildcard);
    }
    Ok(Segment::Literal(text.to_owned()))
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.segments {
            match segment {
                Segment::Literal(literal) => write!(f, "/{literal}")?,
                Segment::Any(name) if name.is_empty() => f.write_str("/*")?,
                Segment::Any(name) => write!(f, "/{{{name}}}")?,
            }
        }
        if self.open {
            f.write_str("/**")
        } else if self.trailing_slash {
            f.write_str("/")
        } else {
            Ok(())
        }
    }
}

impl TryFrom<String> for PathPattern {
    type Error = InvalidPattern;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PathPattern> for String {
    fn from(pattern: PathPattern) -> Self {
        pattern.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opens(pattern: &str, path: &str) -> bool {
        pattern.parse::<PathPattern>().unwrap().matches(path, Doubt::Excludes)
    }

    fn closes(pattern: &str, path: &str) -> bool {
        pattern.parse::<PathPattern>().unwrap().matches(path, Doubt::Includes)
    }

    #[test]
    fn an_exact_pattern_opens_one_path_only() {
        assert!(opens("/healthz", "/healthz"));
        for other in ["/", "/healthz/", "/healthz/x", "/Healthz", "/x/healthz", "/healthzz", "healthz", ""] {
            assert!(!opens("/healthz", other), "{other}");
        }
        assert!(opens("/", "/"));
        assert!(!opens("/", "/a"));
        assert!(opens("/a/", "/a/"));
        assert!(!opens("/a/", "/a"));
    }

    #[test]
    fn a_trailing_slash_does_not_lead_around_a_demand() {
        assert!(closes("/admin", "/admin/"));
        assert!(closes("/admin/", "/admin"));
        assert!(closes("/orders/{id}", "/orders/7/"));
        assert!(!closes("/orders/{id}", "/orders/"));
        assert!(!closes("/orders/{id}", "/orders/7/items"));
    }

    #[test]
    fn another_case_does_not_lead_around_a_demand_and_opens_nothing() {
        for path in ["/Admin/users", "/ADMIN/Users/", "/admin/USERS"] {
            assert!(closes("/admin/users", path) && closes("/Admin/**", path), "{path}");
            assert!(!opens("/admin/users", path), "{path}");
        }
        assert!(!closes("/admin", "/adm\u{131}n") && !closes("/\u{5f}admin", "/\u{3f}admin"));
        assert!(!closes("/a[b", "/a{b"), "32 apart, and no letters");
    }

    #[test]
    fn two_stars_stand_for_any_rest() {
        for path in ["/admin", "/admin/", "/admin/a", "/admin/a/b/"] {
            assert!(opens("/admin/**", path), "{path}");
        }
        assert!(!opens("/admin/**", "/administrator"));
        assert!(opens("/**", "/"));
        assert!(opens("/**", "/a/b"));
        assert!(opens("/files/*/raw", "/files/7/raw"));
        assert!(!opens("/files/*/raw", "/files/raw"));
    }

    #[test]
    fn a_pattern_that_says_something_else_than_it_seems_is_refused() {
        for text in [
            "", "admin", "/a//b", "/a/../b", "/./a", "/a/**/b", "/a**", "/a*", "/{}", "/{a", "/{a}b", "/a?b", "/a#b",
            "/a%2fb", "/a b", "/ü", "/a;b", "/a\\b",
        ] {
            assert!(text.parse::<PathPattern>().is_err(), "{text}");
        }
    }

    #[test]
    fn patterns_survive_a_round_trip() {
        for text in ["/", "/**", "/a", "/a/", "/a/{id}/*", "/a/**"] {
            assert_eq!(text.parse::<PathPattern>().unwrap().to_string(), text);
        }
    }
}
