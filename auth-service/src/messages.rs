//! What pages say, in the languages that there are: English is compiled in, an operator's folder adds languages and rewords.

mod language;
mod outline;
mod sentence;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use fluent_langneg::{NegotiationStrategy, negotiate_languages};
use unic_langid::LanguageIdentifier;

use crate::config::ConfigError;
pub use language::Language;
use language::Wording;
use outline::{Placeholders, line_of, outline};
pub use sentence::{Argument, Count, Said, Sentence, Words};

/// Every message as a function; made by the build of `messages/en.ftl`.
pub(crate) mod say {
    pub(crate) use super::sentence::strong;
    use super::{Count, Sentence, Words};

    include!(concat!(env!("OUT_DIR"), "/say.rs"));
}

const ENGLISH: &str = include_str!("../messages/en.ftl");

/// Longer lists of languages are nobody's.
const MAX_LIST: usize = 1024;

static BUILT_IN: LazyLock<Arc<Wording>> = LazyLock::new(|| Arc::new(Wording::new(&english_tag(), ENGLISH.to_owned())));

/// All languages; English among them.
pub struct Messages {
    tags: Vec<LanguageIdentifier>,
    languages: Vec<Arc<Language>>,
    english: Arc<Language>,
}

impl Messages {
    /// `scopes` are the words of the configuration for what scopes mean, in no particular language: any file may have better ones.
    pub fn load(folder: Option<&Path>, scopes: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let known = outline(ENGLISH).map_err(|mistake| ConfigError::Invalid(format!("en.ftl:{mistake}")))?;
        let known =
            Known { messages: &known, scopes: scopes.keys().map(|scope| Sentence::id_of_scope(scope)).collect() };
        let files = match folder {
            Some(folder) => read(folder)?,
            None => BTreeMap::new(),
        };
        let mut wordings = BTreeMap::new();
        for (tag, file) in files {
            known.check(&file)?;
            let language: LanguageIdentifier = tag.parse().map_err(|_| file.refuse("a language like de or pt-BR"))?;
            let wording = Wording::new(&language, file.text.clone());
            wording.try_out(known.messages).map_err(|id| file.at(&id, "cannot be put together"))?;
            file.tell_what_is_missing(known.messages);
            wordings.insert(language.to_string(), (language, Arc::new(wording)));
        }
        Ok(Self::of(&wordings, &configured(scopes)))
    }

    fn of(wordings: &BTreeMap<String, (LanguageIdentifier, Arc<Wording>)>, scopes: &Arc<Wording>) -> Self {
        let english = english_tag();
        let mut tags: Vec<LanguageIdentifier> = wordings.values().map(|(tag, _)| tag.clone()).collect();
        if !tags.contains(&english) {
            tags.push(english.clone());
        }
        let of = |tag: &LanguageIdentifier| {
            let mut general = tag.clone();
            general.clear_variants();
            let mut plain = general.clone();
            plain.region = None;
            let parents = [tag.clone(), general, plain, english.clone()].map(|tag| tag.to_string());
            let mut chain: Vec<Arc<Wording>> = Vec::new();
            for (at, parent) in parents.iter().enumerate() {
                if let Some((_, wording)) = wordings.get(parent).filter(|_| !parents[..at].contains(parent)) {
                    chain.push(Arc::clone(wording));
                }
            }
            chain.extend([Arc::clone(scopes), Arc::clone(&BUILT_IN)]);
            Arc::new(Language::new(tag, chain))
        };
        let languages = tags.iter().map(of).collect();
        Self { languages, english: of(&english), tags }
    }

    /// The tags of all languages, as `ui_locales_supported` lists them.
    pub fn tags(&self) -> impl Iterator<Item = String> {
        self.tags.iter().map(ToString::to_string)
    }

    /// The best of a list such as `ui_locales`, most wanted first, if there is any that will do.
    pub fn among(&self, wanted: &str) -> Option<Arc<Language>> {
        let wanted: Vec<&str> = wanted.get(..MAX_LIST).unwrap_or(wanted).split_ascii_whitespace().collect();
        self.first_of(&wanted)
    }

    /// What a browser asks for by `Accept-Language` (RFC 9110 §12.5.4); English where it asks for nothing that there is.
    pub fn accepted(&self, header: Option<&str>) -> Arc<Language> {
        let header = header.filter(|header| header.len() <= MAX_LIST).unwrap_or_default();
        let mut ranges: Vec<(&str, u16)> = header.split(',').filter_map(weighted).collect();
        ranges.sort_by_key(|(_, weight)| std::cmp::Reverse(*weight));
        let wanted: Vec<&str> = ranges.into_iter().map(|(range, _)| range).collect();
        self.first_of(&wanted).unwrap_or_else(|| Arc::clone(&self.english))
    }

    fn first_of(&self, wanted: &[&str]) -> Option<Arc<Language>> {
        let wanted: Vec<LanguageIdentifier> = wanted.iter().filter_map(|tag| tag.parse().ok()).collect();
        let best = negotiate_languages(&wanted, &self.tags, None, NegotiationStrategy::Filtering);
        let at = self.tags.iter().position(|tag| Some(&tag) == best.first())?;
        self.languages.get(at).cloned()
    }
}

/// A range and its weight in thousandths; nothing for what is not wanted at all.
fn weighted(range: &str) -> Option<(&str, u16)> {
    let (range, parameter) = range.split_once(';').unwrap_or((range, "q=1"));
    let weight =
        parameter.trim().strip_prefix("q=")?.parse::<f32>().ok().filter(|weight| (0.0..=1.0).contains(weight))?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 1000")]
    let weight = (weight * 1000.0) as u16;
    (weight > 0).then_some((range.trim(), weight))
}

fn english_tag() -> LanguageIdentifier {
    "en".parse().unwrap_or_default()
}

/// The words of the configuration as messages.
fn configured(scopes: &BTreeMap<String, String>) -> Arc<Wording> {
    let mut text = String::new();
    for (scope, words) in scopes {
        let literal: String = words.chars().map(escaped).collect();
        text.extend([&Sentence::id_of_scope(scope), " = { \"", &literal, "\" }\n"]);
    }
    Arc::new(Wording::new(&english_tag(), text))
}

/// A character of a Fluent string literal.
fn escaped(c: char) -> String {
    if c.is_control() || matches!(c, '"' | '\\') || outline::is_reserved(c) {
        format!("\\U{:06x}", u32::from(c))
    } else {
        c.to_string()
    }
}

/// A file of an operator's.
struct File {
    /// For mistakes to name.
    path: String,
    text: String,
}

impl File {
    fn refuse(&self, what: &str) -> ConfigError {
        ConfigError::Syntax { place: self.path.clone(), error: what.to_owned() }
    }

    fn at(&self, id: &str, what: &str) -> ConfigError {
        let place = format!("{}:{}", self.path, line_of(&self.text, id));
        ConfigError::Syntax { place, error: format!("{id}: {what}") }
    }

    fn tell_what_is_missing(&self, known: &BTreeMap<String, Placeholders>) {
        let there = outline(&self.text).unwrap_or_default();
        let missing: Vec<&str> = known.keys().filter(|id| !there.contains_key(*id)).map(String::as_str).collect();
        if !missing.is_empty() {
            let some = missing.iter().take(5).copied().collect::<Vec<_>>().join(", ");
            tracing::info!(
                file = self.path,
                missing = missing.len(),
                some,
                "messages that are said in another language"
            );
        }
    }
}

/// Files by what is before `.ftl` in their names. What begins with a dot is Kubernetes' own in a mounted `ConfigMap`.
fn read(folder: &Path) -> Result<BTreeMap<String, File>, ConfigError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| ConfigError::File { path, error }
    };
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(failed(folder))? {
        let path = entry.map_err(failed(folder))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with('.') {
            continue;
        }
        let place = path.display().to_string();
        let Some(tag) = name.strip_suffix(".ftl") else {
            return Err(ConfigError::Syntax { place, error: "messages are in files like de.ftl".to_owned() });
        };
        let text = std::fs::read_to_string(&path).map_err(failed(&path))?;
        files.insert(tag.to_owned(), File { path: place, text });
    }
    Ok(files)
}

/// What a file may say.
struct Known<'a> {
    messages: &'a BTreeMap<String, Placeholders>,
    scopes: Vec<String>,
}

impl Known<'_> {
    fn check(&self, file: &File) -> Result<(), ConfigError> {
        let there = outline(&file.text).map_err(|mistake| ConfigError::Syntax {
            place: format!("{}:{}", file.path, mistake.line),
            error: mistake.what,
        })?;
        for (id, placeholders) in &there {
            let ours = match self.messages.get(id) {
                Some(ours) => ours.clone(),
                None if self.scopes.contains(id) => Placeholders::new(),
                None => return Err(file.at(id, "there is no such message")),
            };
            if let Some(other) = placeholders.keys().find(|name| !ours.contains_key(*name)) {
                return Err(file.at(id, &format!("has no placeholder ${other}")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
