//! What is in a messages file: which messages with which placeholders. The build reads our own file with it, the start an operator's.

use std::collections::{BTreeMap, BTreeSet};

use fluent_syntax::ast::{CallArguments, Entry, Expression, InlineExpression, Pattern, PatternElement, VariantKey};
use fluent_syntax::parser::parse;
use fluent_syntax::unicode::unescape_unicode_to_string;

/// Placeholders by name.
pub(super) type Placeholders = BTreeMap<String, Kind>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    /// What has a plural, or is given to `NUMBER()`.
    Count,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    pub(super) line: usize,
    /// The message that it is in, and what is wrong.
    pub(super) what: String,
}

impl std::fmt::Display for Mistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.line, self.what)
    }
}

/// Messages by id. Only what needs nothing outside of the file: no references to other messages, no attributes, no functions but `NUMBER`.
pub(super) fn outline(text: &str) -> Result<BTreeMap<String, Placeholders>, Mistake> {
    let resource = parse(text).map_err(|(_, errors)| {
        let (at, what) = errors.first().map_or((0, String::new()), |error| (error.pos.start, error.to_string()));
        Mistake { line: text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1, what }
    })?;
    let (mut messages, mut terms) = (BTreeMap::new(), BTreeSet::new());
    let mut asked = Vec::new();
    for entry in &resource.body {
        let (id, pattern, attributes) = match entry {
            Entry::Message(message) => (message.id.name.to_owned(), message.value.as_ref(), &message.attributes),
            Entry::Term(term) => (format!("-{}", term.id.name), Some(&term.value), &term.attributes),
            Entry::Comment(_) | Entry::GroupComment(_) | Entry::ResourceComment(_) | Entry::Junk { .. } => continue,
        };
        let mistake = |what: &str| Mistake { line: line_of(text, &id), what: format!("{id}: {what}") };
        let Some(pattern) = pattern.filter(|_| attributes.is_empty()) else {
            return Err(mistake("a text, and no attributes"));
        };
        let mut found = Found::default();
        found.pattern(pattern);
        if let Some(what) = found.refused {
            return Err(mistake(what));
        }
        asked.extend(found.terms.into_iter().map(|term| (term, id.clone())));
        let new = match entry {
            Entry::Term(_) => terms.insert(id.clone()),
            _ => messages.insert(id.clone(), found.placeholders).is_none(),
        };
        if !new {
            return Err(mistake("is there twice"));
        }
    }
    match asked.iter().find(|(term, _)| !terms.contains(term)) {
        Some((term, id)) => Err(Mistake { line: line_of(text, id), what: format!("{id}: {term} is not in this file") }),
        None => Ok(messages),
    }
}

/// The line that a message begins at: the parser does not say.
pub(super) fn line_of(text: &str, id: &str) -> usize {
    let begins = |line: &str| line.strip_prefix(id).is_some_and(|rest| rest.trim_start().starts_with('='));
    text.lines().position(begins).unwrap_or_default() + 1
}

/// Stand for a tag while a message is put together: nobody else may say them.
pub(super) fn is_reserved(c: char) -> bool {
    matches!(c, '\u{fdd0}'..='\u{fdef}')
}

#[derive(Default)]
struct Found {
    placeholders: Placeholders,
    terms: Vec<String>,
    refused: Option<&'static str>,
}

impl Found {
    fn pattern(&mut self, pattern: &Pattern<&str>) {
        for element in &pattern.elements {
            match element {
                PatternElement::TextElement { value } => self.text(value),
                PatternElement::Placeable { expression } => self.expression(expression),
            }
        }
    }

    fn expression(&mut self, expression: &Expression<&str>) {
        match expression {
            Expression::Inline(inline) => self.inline(inline, Kind::Text),
            Expression::Select { selector, variants } => {
                self.inline(selector, Kind::Count);
                for variant in variants {
                    let (VariantKey::Identifier { name } | VariantKey::NumberLiteral { value: name }) = &variant.key;
                    self.text(name);
                    self.pattern(&variant.value);
                }
            }
        }
    }

    fn inline(&mut self, inline: &InlineExpression<&str>, kind: Kind) {
        match inline {
            InlineExpression::VariableReference { id } => {
                let known = self.placeholders.entry(id.name.to_owned()).or_insert(kind);
                if kind == Kind::Count {
                    *known = kind;
                }
            }
            InlineExpression::StringLiteral { value } => self.text(&unescape_unicode_to_string(value)),
            InlineExpression::NumberLiteral { .. } => {}
            InlineExpression::FunctionReference { id, arguments } if id.name == "NUMBER" => {
                self.arguments(arguments, Kind::Count);
            }
            InlineExpression::FunctionReference { .. } => self.refused = Some("NUMBER is the only function"),
            InlineExpression::MessageReference { .. } => {
                self.refused = Some("refers to another message; what several share is a term, like -name");
            }
            InlineExpression::TermReference { id, attribute, arguments } => {
                self.terms.push(format!("-{}", id.name));
                if attribute.is_some() {
                    self.refused = Some("terms have no attributes here");
                }
                if let Some(arguments) = arguments {
                    self.arguments(arguments, Kind::Text);
                }
            }
            InlineExpression::Placeable { expression } => self.expression(expression),
        }
    }

    fn arguments(&mut self, arguments: &CallArguments<&str>, kind: Kind) {
        let named = arguments.named.iter().map(|argument| &argument.value);
        for argument in arguments.positional.iter().chain(named) {
            self.inline(argument, kind);
        }
    }

    fn text(&mut self, text: &str) {
        if text.chars().any(is_reserved) {
            self.refused = Some("has a character that is none (U+FDD0 to U+FDEF)");
        }
    }
}
