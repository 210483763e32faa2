//! What makes the pages an organisation's own: colours and a logo, put together once at start.

use std::path::Path;

use bytes::Bytes;

use crate::config::{ConfigError, Theme};

const STYLE: &str = include_str!("../templates/style.css");
const MAX_LOGO: usize = 256 << 10;

pub struct Look {
    pub css: Bytes,
    pub logo: Option<Logo>,
}

pub struct Logo {
    pub content_type: &'static str,
    pub bytes: Bytes,
}

pub fn load(theme: &Theme) -> Result<Look, ConfigError> {
    let logo = theme.logo_file.as_deref().map(logo).transpose()?;
    Ok(Look { css: format!("{}{STYLE}{}", colours(theme), backgrounds(theme)).into(), logo })
}

fn logo(path: &Path) -> Result<Logo, ConfigError> {
    let bytes = std::fs::read(path).map_err(|error| ConfigError::File { path: path.to_owned(), error })?;
    let content_type = match path.extension().and_then(|extension| extension.to_str()) {
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("webp") => "image/webp",
        _ => return Err(ConfigError::Invalid("theme.logo_file: .svg, .png, .jpg or .webp".to_owned())),
    };
    if bytes.len() > MAX_LOGO {
        return Err(ConfigError::Invalid("theme.logo_file: at most 256 KiB".to_owned()));
    }
    Ok(Logo { content_type, bytes: bytes.into() })
}

/// Colours were checked when the configuration was read: nothing else gets into the stylesheet.
fn colours(theme: &Theme) -> String {
    let accent = |colour: &str| format!("--accent:{colour};--on-accent:{}", text_on(colour));
    let dark = theme.accent_dark.as_ref().unwrap_or(&theme.accent);
    format!(":root{{{}}}\n@media (prefers-color-scheme:dark){{:root{{{}}}}}\n", accent(&theme.accent), accent(dark))
}

/// After the stylesheet, whose own they replace.
fn backgrounds(theme: &Theme) -> String {
    let ground = |scheme: &str, colour: &String| {
        format!("@media (prefers-color-scheme:{scheme}){{:root{{--ground:{colour}}}}}\n")
    };
    let light = theme.background.as_ref().map(|colour| ground("light", colour));
    let dark = theme.background_dark.as_ref().map(|colour| ground("dark", colour));
    light.into_iter().chain(dark).collect()
}

/// `#rrggbb`.
pub fn rgb(colour: &str) -> Option<[u8; 3]> {
    let digits = colour.strip_prefix('#').filter(|digits| digits.len() == 6 && digits.is_ascii())?;
    let channel = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).ok();
    digits.bytes().all(|b| b.is_ascii_hexdigit()).then_some([channel(0)?, channel(2)?, channel(4)?])
}

/// Whichever of white and black has the higher contrast (WCAG 2.2 §1.4.3).
fn text_on(colour: &str) -> &'static str {
    let linear = |channel: u8| {
        let value = f64::from(channel) / 255.0;
        if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    };
    let [red, green, blue] = rgb(colour).unwrap_or_default().map(linear);
    let luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    if 1.05 / (luminance + 0.05) >= (luminance + 0.05) / 0.05 { "#fff" } else { "#000" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_can_be_read_on_any_accent() {
        for (colour, text) in
            [("#2f5bd8", "#fff"), ("#000000", "#fff"), ("#ffd400", "#000"), ("#ffffff", "#000"), ("#7aa2ff", "#000")]
        {
            assert_eq!(text_on(colour), text, "{colour}");
        }
    }

    #[test]
    fn only_colours_get_into_the_stylesheet() {
        for bad in ["red", "#fff", "#12345g", "#1234567", "#123456;", "", "#+12345", "#é1234"] {
            assert_eq!(rgb(bad), None, "{bad}");
        }
        let theme = Theme { background: Some("#010203".to_owned()), ..Theme::default() };
        let css = load(&theme).unwrap().css;
        let css = std::str::from_utf8(&css).unwrap();
        assert!(css.contains("--accent:#2f5bd8") && css.contains("--ground:#010203"));
    }

    #[test]
    fn a_logo_is_an_image_of_bounded_size() {
        let logo = |name: &str, size: usize| {
            let file = std::env::temp_dir().join(format!("cloakroom-logo-{}-{name}", std::process::id()));
            std::fs::write(&file, vec![b'x'; size]).unwrap();
            let loaded = load(&Theme { logo_file: Some(file.clone()), ..Theme::default() });
            std::fs::remove_file(file).unwrap();
            loaded.map(|look| look.logo.unwrap().content_type).map_err(|error| error.to_string())
        };
        assert_eq!(logo("a.svg", 10), Ok("image/svg+xml"));
        assert!(logo("a.html", 10).unwrap_err().contains("logo_file"));
        assert!(logo("a.png", MAX_LOGO + 1).unwrap_err().contains("256 KiB"));
        assert!(load(&Theme { logo_file: Some("/nowhere.png".into()), ..Theme::default() }).is_err());
    }
}
