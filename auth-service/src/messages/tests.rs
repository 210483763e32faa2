use super::*;

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn load(files: &[(&str, &str)]) -> Result<Messages, String> {
    let scopes = BTreeMap::from([("orders:read".to_owned(), "See {your} \"orders\" <\\>".to_owned())]);
    Messages::load(Some(folder(files).path()), &scopes).map_err(|error| error.to_string())
}

fn accepted(messages: &Messages, header: &str) -> String {
    messages.accepted(Some(header)).tag().to_owned()
}

#[test]
fn the_language_is_the_best_of_those_that_there_are() {
    let hello = "sign-in = x";
    let files = ["de.ftl", "pt-BR.ftl", "he.ftl", "zh-Hant.ftl"].map(|name| (name, hello));
    let messages = load(&files).unwrap();
    for (header, tag) in [
        ("de", "de"),
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("en-GB, de;q=0.9", "en"),
        ("fr, de;q=0.5", "de"),
        ("en;q=0.1, de;q=0.2", "de"),
        ("de;q=0, en;q=0.1", "en"),
        ("de;q=0", "en"),
        ("pt", "pt-BR"),
        ("iw-IL, he;q=0.5", "he"),
        ("zh-TW", "zh-Hant"),
        ("*", "en"),
        ("", "en"),
        ("de;q=2", "en"),
        ("de;q=NaN, pt;q=-1", "en"),
        (";;;,,,q=1;de", "en"),
        ("xx-yy-zz-11-, \u{e9}", "en"),
    ] {
        assert_eq!(accepted(&messages, header), tag, "{header}");
    }
    assert_eq!(accepted(&messages, &format!("de{}", ",de".repeat(2000))), "en", "nobody needs that many");
    assert_eq!(messages.accepted(None).tag(), "en");
    assert_eq!(messages.among("fr pt de").unwrap().tag(), "pt-BR");
    assert!(
        messages.among("fr").is_none() && messages.among("").is_none() && messages.among(&"é".repeat(800)).is_none()
    );
    assert_eq!(messages.among("he").unwrap().direction(), "rtl");
    assert_eq!(messages.tags().collect::<Vec<_>>(), ["de", "he", "pt-BR", "zh-Hant", "en"]);
}

#[test]
fn what_a_language_lacks_is_said_in_the_one_that_it_comes_from_and_then_in_english() {
    let messages = load(&[
        ("de.ftl", "sign-in = Anmelden\ncancel = Abbrechen\n-app = App\nset-up = { -app } einrichten"),
        ("de-CH.ftl", "cancel = Abbräche"),
        ("en.ftl", "allow = Allow it\nscope-orders_3aread = Read orders"),
    ])
    .unwrap();
    let swiss = messages.among("de-CH").unwrap();
    let said = |sentence: Sentence| swiss.say(&sentence).to_string();
    assert_eq!(said(say::cancel()), "Abbräche");
    assert_eq!(said(say::sign_in()), "Anmelden");
    assert_eq!(said(say::set_up()), "App einrichten");
    assert_eq!(said(say::allow()), "Allow it");
    assert_eq!(said(say::sign_out()), "Sign out");
    assert_eq!(said(say::days_ago(1_u64)), "1 day ago");
    assert_eq!(said(Sentence::of_scope("orders:read")), "Read orders");
    assert_eq!(said(Sentence::of_scope("openid")), "Know that it is you");
    assert_eq!(said(Sentence::of_scope("a scope <b>")), "a scope &#60;b&#62;");
}

#[test]
fn the_words_of_the_configuration_for_a_scope_are_taken_as_they_are() {
    let messages = load(&[]).unwrap();
    let english = messages.accepted(None);
    for other in ["orders-read", "orders.read", "orders_read", "orders_3aread"] {
        assert_eq!(english.say(&Sentence::of_scope(other)).to_text(), other, "another scope has no part in them");
    }
    let said = english.say(&Sentence::of_scope("orders:read")).to_text();
    assert_eq!(said, "See {your} \"orders\" <\\>");
}

#[test]
fn a_mistake_is_refused_with_its_file_line_and_message() {
    for (name, text, place, what) in [
        ("de.ftl", "sign-in = Anmelden\n\nsing-out = Abmelden", "de.ftl:3", "sing-out: there is no such message"),
        ("de.ftl", "sign-in = Anmelden\ncancel Abbrechen\n", "de.ftl:2", "=\""),
        ("de.ftl", "\nsign-in-to-continue = weiter zu { $app }", "de.ftl:2", "has no placeholder $app"),
        ("de.ftl", "sign-in = { cancel }", "de.ftl:1", "sign-in: refers to another message"),
        ("de.ftl", "sign-in = { -app }", "de.ftl:1", "-app is not in this file"),
        ("de.ftl", "sign-in = { DATETIME(1) }", "de.ftl:1", "NUMBER is the only function"),
        ("de.ftl", "sign-in = x\n    .title = y", "de.ftl:1", "no attributes"),
        ("de.ftl", "sign-in = x\nsign-in = y", "de.ftl:1", "twice"),
        ("de.ftl", "sign-in = { \"\\uFDD0\" }", "de.ftl:1", "U+FDD0"),
        ("de.ftl", "-a = { -b }\n-b = { -a }\nsign-in = { -a }", "de.ftl:3", "cannot be put together"),
        ("german.language.ftl", "sign-in = x", "german.language.ftl", "a language like de"),
        ("de.txt", "sign-in = x", "de.txt", "in files like de.ftl"),
    ] {
        let error = load(&[(name, text)]).err().unwrap_or_else(|| panic!("{text} is taken"));
        assert!(error.contains(place) && error.contains(what), "{error}");
    }
    assert!(Messages::load(Some(Path::new("/nowhere")), &BTreeMap::new()).is_err());
    assert!(load(&[("..data", ""), (".hidden.ftl", "junk")]).is_ok(), "what Kubernetes puts beside the files");
}

#[test]
fn nothing_in_a_translation_or_a_name_is_markup() {
    let messages =
        load(&[("de.ftl", "sign-in-to-continue = <script>alert('1')</script> \"{ $application }\" & <b>")]).unwrap();
    let said = |name: &str| messages.among("de").unwrap().say(&say::sign_in_to_continue(say::strong(name))).to_string();
    assert_eq!(
        said("<img src=x onerror=alert(1)>"),
        "&#60;script&#62;alert(&#39;1&#39;)&#60;/script&#62; &#34;<strong>&#60;img src=x onerror=alert(1)&#62;</strong>&#34; &#38; &#60;b&#62;"
    );
    assert!(said("{ $application }").contains("<strong>{ $application }</strong>"), "put in once");
    assert!(said("\u{fdd1}x\u{fdd0}").contains("<strong>x</strong>"), "nobody else closes the tag");
    assert!(
        !messages
            .among("de")
            .unwrap()
            .say(&say::sign_in_to_continue(say::strong("x")))
            .to_text()
            .contains(sentence::BOLD)
    );
}

#[test]
fn a_name_turns_nothing_around() {
    let messages = load(&[("he.ftl", "allow-application = { $application }?")]).unwrap();
    let said = |tag: &str, name: &str| {
        let language = messages.among(tag).unwrap();
        language.say(&say::allow_application(name)).to_string()
    };
    assert_eq!(said("en", "Shop"), "Allow Shop?", "nothing invisible where it is not needed");
    assert_eq!(said("en", "Büro"), "Allow Büro?");
    assert_eq!(said("en", "\u{202e}gro.live\u{202c}\u{2069}\u{200f}"), "Allow gro.live?");
    assert_eq!(said("en", "חנות"), "Allow \u{2068}חנות\u{2069}?");
    assert_eq!(said("he", "Shop"), "\u{2068}Shop\u{2069}?");
}

#[test]
fn no_template_has_words_of_its_own() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "html") {
            let text = std::fs::read_to_string(&path).unwrap();
            assert_eq!(words_in(&text), Vec::<String>::new(), "{}", path.display());
            seen += 1;
        }
    }
    assert!(seen > 15);
    assert_eq!(words_in("{% if a %}<p class=\"x\">{{ b }} · <b>Two</b></p>{% endif %}"), ["Two"]);
    assert_eq!(words_in("<a href=\"/x\" aria-label=\"Go {{ on }}\">{{ x }}</a>"), ["aria-label=\"Go \""]);
}

/// What a template says without asking for a message: text, and the attributes that people see or hear.
fn words_in(template: &str) -> Vec<String> {
    let mut html = template.to_owned();
    for (begin, end) in [("{{", "}}"), ("{%", "%}"), ("{#", "#}")] {
        while let Some(from) = html.find(begin) {
            let to = html[from..].find(end).unwrap() + from + 2;
            html.replace_range(from..to, "");
        }
    }
    let mut words = Vec::new();
    for part in html.split('<').skip(1) {
        let (tag, text) = part.split_once('>').unwrap();
        words.extend([text.trim().to_owned()]);
        for name in ["aria-label", "placeholder", "title", "alt", "data-failed", "data-known"] {
            let attribute = tag.split_once(&format!("{name}=\"")).and_then(|(_, rest)| rest.split_once('"'));
            words.extend(
                attribute.map(|(value, _)| format!("{name}=\"{value}\"")).filter(|text| !text.ends_with("=\"\"")),
            );
        }
    }
    words.retain(|text| text.chars().any(char::is_alphabetic));
    words
}
