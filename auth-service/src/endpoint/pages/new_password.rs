//! A password that somebody chooses: long enough, not easily guessed, and typed the same way twice.

use zeroize::Zeroizing;
use zxcvbn::feedback::{Feedback, Suggestion, Warning};

use super::error::PageError;
use crate::app::App;
use crate::form::Parameters;
use crate::messages::{Sentence, say};
use crate::password::{MAX_LENGTH, PasswordError};
use crate::record::user::{PasswordHash, User};

/// Nobody chooses one where people sign in without.
pub fn are_enabled(app: &App) -> Result<(), PageError> {
    if app.config.passwords.enabled { Ok(()) } else { Err(PageError::Forbidden(say::sorry_no_passwords())) }
}

pub enum Chosen {
    Good(PasswordHash),
    /// What to tell the person.
    Bad(Sentence),
}

pub async fn choose(app: &App, user: &User, form: &Parameters) -> Result<Chosen, PageError> {
    let password = Zeroizing::new(form.owned("new_password").unwrap_or_default());
    let again = Zeroizing::new(form.owned("again").unwrap_or_default());
    if *password != *again {
        return Ok(Chosen::Bad(say::passwords_differ()));
    }
    let about = about(app, user);
    let verdict = async {
        if let Some(weakness) = app.passwords.advise(password.clone(), about).await? {
            return Ok(Chosen::Bad(in_words(weakness.why.as_ref())));
        }
        app.passwords.hash(password).await.map(Chosen::Good)
    };
    verdict.await.or_else(|error| match error {
        PasswordError::Length(least) => Ok(Chosen::Bad(say::password_length(least, MAX_LENGTH))),
        PasswordError::Busy => Err(PageError::Unavailable(error.to_string())),
        PasswordError::Parameters(_) | PasswordError::Hashing(_) => Err(PageError::Internal(error.to_string())),
    })
}

/// What somebody who knows the person tries first: names, their parts, and the parts run together.
fn about(app: &App, user: &User) -> Vec<String> {
    let profile = &user.details.profile;
    let known =
        [Some(&user.details.username), profile.name.as_ref(), profile.email.as_ref(), Some(&app.config.theme.name)];
    let mut words = Vec::new();
    for text in known.into_iter().flatten() {
        let parts: Vec<&str> = text.split(|c: char| !c.is_alphanumeric()).filter(|part| part.len() > 1).collect();
        words.push(parts.concat());
        words.extend(parts.into_iter().map(str::to_owned));
        words.push(text.clone());
    }
    words
}

/// Why it is easy to guess, and what would be better.
fn in_words(feedback: Option<&Feedback>) -> Sentence {
    let warning = feedback.and_then(Feedback::warning).map(warning);
    let suggestions = feedback.map(Feedback::suggestions).unwrap_or_default().iter().copied().map(suggestion);
    warning.into_iter().chain(suggestions).fold(say::guess_too_easy(), Sentence::then)
}

fn warning(warning: Warning) -> Sentence {
    match warning {
        Warning::StraightRowsOfKeysAreEasyToGuess => say::guess_rows_of_keys(),
        Warning::ShortKeyboardPatternsAreEasyToGuess => say::guess_keyboard_patterns(),
        Warning::RepeatsLikeAaaAreEasyToGuess => say::guess_repeats(),
        Warning::RepeatsLikeAbcAbcAreOnlySlightlyHarderToGuess => say::guess_longer_repeats(),
        Warning::ThisIsATop10Password => say::guess_top_10(),
        Warning::ThisIsATop100Password => say::guess_top_100(),
        Warning::ThisIsACommonPassword => say::guess_common(),
        Warning::ThisIsSimilarToACommonlyUsedPassword => say::guess_like_common(),
        Warning::SequencesLikeAbcAreEasyToGuess => say::guess_sequences(),
        Warning::RecentYearsAreEasyToGuess => say::guess_years(),
        Warning::AWordByItselfIsEasyToGuess => say::guess_one_word(),
        Warning::DatesAreOftenEasyToGuess => say::guess_dates(),
        Warning::NamesAndSurnamesByThemselvesAreEasyToGuess => say::guess_names(),
        Warning::CommonNamesAndSurnamesAreEasyToGuess => say::guess_common_names(),
    }
}

fn suggestion(suggestion: Suggestion) -> Sentence {
    match suggestion {
        Suggestion::UseAFewWordsAvoidCommonPhrases => say::better_few_words(),
        Suggestion::NoNeedForSymbolsDigitsOrUppercaseLetters => say::better_no_symbols_needed(),
        Suggestion::AddAnotherWordOrTwo => say::better_another_word(),
        Suggestion::CapitalizationDoesntHelpVeryMuch => say::better_capitals(),
        Suggestion::AllUppercaseIsAlmostAsEasyToGuessAsAllLowercase => say::better_all_capitals(),
        Suggestion::ReversedWordsArentMuchHarderToGuess => say::better_reversed(),
        Suggestion::PredictableSubstitutionsDontHelpVeryMuch => say::better_substitutions(),
        Suggestion::UseALongerKeyboardPatternWithMoreTurns => say::better_keyboard_pattern(),
        Suggestion::AvoidRepeatedWordsAndCharacters => say::better_no_repeats(),
        Suggestion::AvoidSequences => say::better_no_sequences(),
        Suggestion::AvoidRecentYears => say::better_no_years(),
        Suggestion::AvoidYearsThatAreAssociatedWithYou => say::better_no_own_years(),
        Suggestion::AvoidDatesAndYearsThatAreAssociatedWithYou => say::better_no_own_dates(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_reads_as_its_library_puts_it() {
        for password in
            ["password123", "aaaaaaaaaaa", "qwertyuiop", "annexample2026", "1987-06-05", "abcdefghij", "Kennedy"]
        {
            let feedback = zxcvbn::zxcvbn(password, &["annexample"]).feedback().unwrap().clone();
            let said = in_words(Some(&feedback)).to_string();
            for part in feedback.suggestions() {
                assert!(said.contains(&part.to_string()), "{said}");
            }
            assert!(feedback.warning().is_none_or(|warning| said.contains(&warning.to_string())), "{said}");
        }
    }
}
