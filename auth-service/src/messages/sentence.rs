//! A sentence before it is said in some language, and after.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::sync::Arc;

use askama::filters::{Escaper as _, Html, HtmlSafe};

use super::language::Language;

/// A message and what its placeholders stand for: whoever has something to say need not know in which language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentence {
    pub(super) id: Cow<'static, str>,
    pub(super) arguments: Vec<(&'static str, Argument)>,
    /// Said as it is, where no language has the message.
    pub(super) otherwise: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Argument {
    Text { text: String, strong: bool },
    Count(u64),
    Sentence(Box<Sentence>),
}

impl Sentence {
    pub(super) fn new(id: &'static str, arguments: Vec<(&'static str, Argument)>) -> Self {
        Self { id: Cow::Borrowed(id), arguments, otherwise: None }
    }

    /// What an operator or the service itself says in one language only.
    pub fn verbatim(text: &str) -> Self {
        Self { id: Cow::Borrowed(""), arguments: Vec::new(), otherwise: Some(text.to_owned()) }
    }

    /// What a scope means; where nobody has words for it, its name.
    pub fn of_scope(scope: &str) -> Self {
        Self { id: Cow::Owned(Self::id_of_scope(scope)), arguments: Vec::new(), otherwise: Some(scope.to_owned()) }
    }

    /// Ids of messages have letters, digits, `-` and `_`. No two scopes have the same one: people must not consent to another one's words.
    pub(super) fn id_of_scope(scope: &str) -> String {
        let mut id = "scope-".to_owned();
        for byte in scope.bytes() {
            match byte {
                b'-' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => id.push(byte.into()),
                _ => {
                    let _ = write!(id, "_{byte:02x}");
                }
            }
        }
        id
    }

    #[must_use]
    pub fn then(self, next: Self) -> Self {
        super::say::one_after_another(self, next)
    }
}

/// For templates, which pass references on.
impl AsRef<Self> for Sentence {
    fn as_ref(&self) -> &Self {
        self
    }
}

/// In English, for the log and for programs.
impl fmt::Display for Sentence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Language::built_in().say(self).to_text())
    }
}

/// What is put where a text belongs.
pub trait Words {
    fn argument(&self) -> Argument;
}

/// What is put where a number belongs.
pub trait Count {
    fn argument(&self) -> Argument;
}

/// Printed bold.
pub(crate) struct Strong<T>(T);

pub(crate) fn strong<T: AsRef<str>>(text: T) -> Strong<T> {
    Strong(text)
}

impl Words for str {
    fn argument(&self) -> Argument {
        Argument::Text { text: self.to_owned(), strong: false }
    }
}

impl Words for String {
    fn argument(&self) -> Argument {
        self.as_str().argument()
    }
}

impl Words for Arc<str> {
    fn argument(&self) -> Argument {
        self.as_ref().argument()
    }
}

impl<T: AsRef<str>> Words for Strong<T> {
    fn argument(&self) -> Argument {
        Argument::Text { text: self.0.as_ref().to_owned(), strong: true }
    }
}

impl Words for Sentence {
    fn argument(&self) -> Argument {
        Argument::Sentence(Box::new(self.clone()))
    }
}

impl<T: Words + ?Sized> Words for &T {
    fn argument(&self) -> Argument {
        (**self).argument()
    }
}

impl Count for u64 {
    fn argument(&self) -> Argument {
        Argument::Count(*self)
    }
}

impl Count for u32 {
    fn argument(&self) -> Argument {
        Argument::Count((*self).into())
    }
}

impl Count for usize {
    fn argument(&self) -> Argument {
        Argument::Count(u64::try_from(*self).unwrap_or(u64::MAX))
    }
}

impl<T: Count + ?Sized> Count for &T {
    fn argument(&self) -> Argument {
        (**self).argument()
    }
}

/// Where bold print begins and ends. Neither is a character (Unicode §23.7), and no translation and no argument can have them.
pub(super) const BOLD: char = '\u{fdd0}';
pub(super) const PLAIN: char = '\u{fdd1}';

/// Words of a language. On a page all that is in them is text, but the tags that we put there.
pub struct Said<'a>(pub(super) Cow<'a, str>);

impl Said<'_> {
    /// Not for a page.
    pub fn to_text(&self) -> String {
        self.0.chars().filter(|c| !matches!(*c, BOLD | PLAIN)).collect()
    }
}

impl HtmlSafe for Said<'_> {}

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in self.0.split_inclusive([BOLD, PLAIN]) {
            let text = part.trim_end_matches([BOLD, PLAIN]);
            Html.write_escaped_str(&mut *f, text)?;
            match part[text.len()..].chars().next() {
                Some(BOLD) => f.write_str("<strong>")?,
                Some(_) => f.write_str("</strong>")?,
                None => {}
            }
        }
        Ok(())
    }
}

/// An argument as it may stand in a text of that direction.
///
/// A name must not turn around what comes after it, or be read backwards. Characters that change direction are taken out, and a name that
/// may run the other way is set apart (Unicode Bidirectional Algorithm §2.4): for others that is not needed, and whoever copies a text gets no
/// invisible characters with it. Not by `<bdi>`, because texts are in titles and labels, too.
pub(super) fn set_apart(text: &str, strong: bool, right_to_left: bool) -> String {
    let kept = |c: &char| !changes_direction(*c) && !super::outline::is_reserved(*c);
    let apart = right_to_left || text.chars().any(runs_right_to_left);
    let (before, after) = if apart { ("\u{2068}", "\u{2069}") } else { ("", "") };
    let mut set = String::with_capacity(text.len() + 12);
    set.extend(strong.then_some(BOLD));
    set.push_str(before);
    set.extend(text.chars().filter(kept));
    set.push_str(after);
    set.extend(strong.then_some(PLAIN));
    set
}

/// Hebrew, Arabic and their kin, by the blocks that Unicode keeps for such scripts.
fn runs_right_to_left(c: char) -> bool {
    matches!(c, '\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdcf}' | '\u{fdf0}'..='\u{fdff}' | '\u{fe70}'..='\u{fefe}'
        | '\u{10800}'..='\u{10fff}' | '\u{1e800}'..='\u{1efff}')
        && !changes_direction(c)
}

fn changes_direction(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
