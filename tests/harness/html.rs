//! As much HTML as it takes to fill in a form.

use anyhow::{Context, Result};

/// A form and its fields as the page gives them.
#[derive(Clone, Debug)]
pub struct Form {
    pub action: String,
    pub fields: Vec<(String, String)>,
    /// Names of text-like and of password inputs.
    text: Vec<String>,
    passwords: Vec<String>,
}

impl Form {
    /// The page's form that asks for a password.
    pub fn with_password(html: &str) -> Result<Self> {
        Self::all(html).into_iter().find(|form| !form.passwords.is_empty()).context("no form with a password field")
    }

    /// The page's form that is sent to an address with this ending.
    pub fn to(html: &str, action: &str) -> Result<Self> {
        let found = Self::all(html).into_iter().find(|form| form.action.ends_with(action));
        found.with_context(|| format!("no form that goes to {action}"))
    }

    pub fn all(html: &str) -> Vec<Self> {
        let forms = html.split("<form").skip(1);
        forms.map(|rest| Self::parse(rest.split("</form").next().unwrap_or_default())).collect()
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.fields.retain(|(n, _)| n != name);
        self.fields.push((name.to_owned(), value.to_owned()));
    }

    /// Fills the first text field in.
    pub fn set_text(&mut self, value: &str) -> Result<()> {
        let name = self.text.first().context("no text field")?.clone();
        self.set(&name, value);
        Ok(())
    }

    /// Fills the password field in.
    pub fn set_password(&mut self, value: &str) -> Result<()> {
        let name = self.passwords.first().context("no password field")?.clone();
        self.set(&name, value);
        Ok(())
    }

    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once('>').unwrap_or((text, ""));
        let action = attribute(head, "action").unwrap_or_default();
        let mut form = Self { action, fields: Vec::new(), text: Vec::new(), passwords: Vec::new() };
        for input in body.split("<input").skip(1) {
            let input = input.split('>').next().unwrap_or_default();
            let Some(name) = attribute(input, "name") else { continue };
            match attribute(input, "type").as_deref().unwrap_or("text") {
                "password" => form.passwords.push(name),
                "hidden" => form.fields.push((name, attribute(input, "value").unwrap_or_default())),
                "text" | "email" => form.text.push(name),
                _ => {}
            }
        }
        form
    }
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let start = tag.find(&format!(" {name}=")).or_else(|| tag.find(&format!("\n{name}=")))? + name.len() + 2;
    let value = &tag[start..];
    let value = match value.chars().next()? {
        quote @ ('"' | '\'') => value[1..].split(quote).next()?,
        _ => value.split_ascii_whitespace().next()?,
    };
    let decoded = [
        ("&quot;", "\""),
        ("&#34;", "\""),
        ("&#39;", "'"),
        ("&#x27;", "'"),
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&#38;", "&"),
        ("&amp;", "&"),
    ];
    Some(decoded.iter().fold(value.to_owned(), |text, (entity, character)| text.replace(entity, character)))
}
