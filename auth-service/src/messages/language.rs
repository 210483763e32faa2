//! A language: its own words first, then those of the languages that it falls back to.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use fluent_bundle::concurrent::FluentBundle;
use fluent_bundle::{FluentArgs, FluentResource, FluentValue};
use unic_langid::{CharacterDirection, LanguageIdentifier};

use super::outline::{Kind, Placeholders};
use super::sentence::{Argument, Said, Sentence, set_apart};

/// One file's messages.
pub(super) struct Wording {
    bundle: FluentBundle<FluentResource>,
}

impl Wording {
    /// Of a text that was checked: what cannot be read is left out.
    pub(super) fn new(language: &LanguageIdentifier, text: String) -> Self {
        let mut bundle = FluentBundle::new_concurrent(vec![language.clone()]);
        bundle.set_use_isolating(false);
        let builtins = bundle.add_builtins();
        debug_assert!(builtins.is_ok(), "a new bundle has no functions yet");
        bundle.add_resource_overriding(FluentResource::try_new(text).unwrap_or_else(|(resource, _)| resource));
        Self { bundle }
    }

    /// Nothing, if it is not there or cannot be put together.
    fn message(&self, id: &str, arguments: Option<&FluentArgs<'_>>) -> Option<Cow<'_, str>> {
        let pattern = self.bundle.get_message(id)?.value()?;
        let mut errors = Vec::new();
        let text = self.bundle.format_pattern(pattern, arguments, &mut errors);
        errors.is_empty().then_some(text)
    }

    /// The first message that cannot be put together: one whose terms refer to each other, say.
    pub(super) fn try_out(&self, known: &BTreeMap<String, Placeholders>) -> Result<(), String> {
        for (id, placeholders) in known.iter().filter(|(id, _)| self.bundle.has_message(id)) {
            for count in [0, 1, 2, 3, 5, 100] {
                let sample = |kind: &Kind| match kind {
                    Kind::Text => FluentValue::from("x"),
                    Kind::Count => FluentValue::from(count),
                };
                let arguments = placeholders.iter().map(|(name, kind)| (name.as_str(), sample(kind))).collect();
                self.message(id, Some(&arguments)).ok_or_else(|| id.clone())?;
            }
        }
        Ok(())
    }
}

pub struct Language {
    tag: String,
    right_to_left: bool,
    chain: Vec<Arc<Wording>>,
}

impl Language {
    pub(super) fn new(tag: &LanguageIdentifier, chain: Vec<Arc<Wording>>) -> Self {
        let right_to_left = tag.character_direction() == CharacterDirection::RTL;
        Self { tag: tag.to_string(), right_to_left, chain }
    }

    /// English as it was compiled in.
    pub fn built_in() -> &'static Self {
        static BUILT_IN: LazyLock<Language> =
            LazyLock::new(|| Language::new(&super::english_tag(), vec![Arc::clone(&super::BUILT_IN)]));
        &BUILT_IN
    }

    /// BCP 47.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// For `dir`.
    pub fn direction(&self) -> &'static str {
        if self.right_to_left { "rtl" } else { "ltr" }
    }

    pub fn say(&self, sentence: &Sentence) -> Said<'_> {
        let arguments = if sentence.arguments.is_empty() { None } else { Some(self.arguments(sentence)) };
        let said = self.chain.iter().find_map(|wording| wording.message(&sentence.id, arguments.as_ref()));
        Said(said.or_else(|| sentence.otherwise.clone().map(Cow::Owned)).unwrap_or_default())
    }

    fn arguments(&self, sentence: &Sentence) -> FluentArgs<'static> {
        let mut arguments = FluentArgs::with_capacity(sentence.arguments.len());
        for (name, argument) in &sentence.arguments {
            let value = match argument {
                Argument::Text { text, strong } => set_apart(text, *strong, self.right_to_left).into(),
                Argument::Count(count) => FluentValue::from(*count),
                Argument::Sentence(sentence) => self.say(sentence).0.into_owned().into(),
            };
            arguments.set(*name, value);
        }
        arguments
    }
}
