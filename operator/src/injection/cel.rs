//! CEL as text: literals that stay literals whatever they contain, and the typed objects that mutations are made of.

use std::fmt::Write as _;

/// A string literal. Everything but plain ASCII is escaped, so that no text can end the literal or become an expression.
pub(super) fn quote(text: &str) -> String {
    let mut literal = String::with_capacity(text.len() + 2);
    literal.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                literal.push('\\');
                literal.push(c);
            }
            ' '..='~' => literal.push(c),
            // Writing to a String cannot fail.
            _ => drop(write!(literal, "\\U{:08x}", u32::from(c))),
        }
    }
    literal.push('"');
    literal
}

/// A list literal of string literals.
pub(super) fn quote_all<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = texts.into_iter().map(quote).collect();
    format!("[{}]", quoted.join(", "))
}

/// The value of an environment variable or argument: kubelet replaces `$(NAME)` in it, and takes `$$` for `$`.
pub(super) fn quote_env(text: &str) -> String {
    quote(&text.replace('$', "$$"))
}

/// A value inside a pod, as a mutation constructs it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    /// A literal or expression, already CEL.
    Cel(String),
    List(Vec<Node>),
    /// An object of the pod's schema.
    Object(Vec<(&'static str, Node)>),
}

impl Node {
    pub(super) fn text(text: &str) -> Self {
        Self::Cel(quote(text))
    }

    pub(super) fn texts<const N: usize>(texts: [&str; N]) -> Self {
        Self::List(texts.map(Self::text).into())
    }

    pub(super) fn number(number: impl Into<i64>) -> Self {
        Self::Cel(number.into().to_string())
    }

    pub(super) fn bool(value: bool) -> Self {
        Self::Cel(value.to_string())
    }

    /// Strings by strings, such as resource quantities. `dyn` lets an empty map pass where a typed one is expected.
    pub(super) fn map<'a>(entries: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        let entries: Vec<String> = entries.into_iter().map(|(k, v)| format!("{}: {}", quote(k), quote(v))).collect();
        Self::Cel(format!("{{{}}}", entries.join(", ")))
    }

    /// The constructor of this value at a path of the pod, e.g. `Object.spec.initContainers`.
    pub(super) fn construct(&self, at: &str) -> String {
        match self {
            Self::Cel(cel) => cel.clone(),
            Self::List(items) => {
                let items: Vec<String> = items.iter().map(|item| item.construct(at)).collect();
                format!("[{}]", items.join(", "))
            }
            Self::Object(fields) => {
                let fields: Vec<String> = fields
                    .iter()
                    .map(|(name, value)| format!("{name}: {}", value.construct(&format!("{at}.{name}"))))
                    .collect();
                format!("{at}{{{}}}", fields.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_ends_its_literal() {
        assert_eq!(quote(r#"a" + object + "b"#), r#""a\" + object + \"b""#);
        assert_eq!(quote(r#"\" || true || ""#), r#""\\\" || true || \"""#);
        assert_eq!(quote("a\nb\r\t\0"), r#""a\U0000000ab\U0000000d\U00000009\U00000000""#);
        assert_eq!(quote("é\u{2028}🎟"), r#""\U000000e9\U00002028\U0001f39f""#);
        assert_eq!(quote("${x} $(X) 'y' {{z}}"), "\"${x} $(X) 'y' {{z}}\"");
    }

    #[test]
    fn a_literal_means_what_went_in() {
        use kube::core::cel::cel::{Context, Program, Value};
        for text in ["", "\"", "\\", "\\\"", "\\n", "'", "\n\r\t", "${a}", "é 🎟", "\" + \"", "\u{7f}\u{1}"] {
            let value = Program::compile(&quote(text)).unwrap().execute(&Context::default()).unwrap();
            assert_eq!(value, Value::String(text.to_owned().into()), "{text:?}");
        }
    }

    #[test]
    fn kubelet_expands_nothing() {
        assert_eq!(quote_env("$(POD_NAME) $$"), "\"$$(POD_NAME) $$$$\"");
    }

    #[test]
    fn objects_are_constructed_by_their_path() {
        let node = Node::Object(vec![
            ("name", Node::text("a")),
            ("env", Node::List(vec![Node::Object(vec![("name", Node::text("B"))])])),
        ]);
        assert_eq!(
            node.construct("Object.spec.initContainers"),
            r#"Object.spec.initContainers{name: "a", env: [Object.spec.initContainers.env{name: "B"}]}"#
        );
    }
}
