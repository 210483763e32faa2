//! Log lines: one JSON object a line on stderr. No secrets: tokens show their id at most.

use std::fmt::Display;
use std::io::Write as _;
use std::str::FromStr;
use std::sync::atomic::{AtomicU8, Ordering};

use serde_json::{Map, Value};

use crate::clock;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
}

static LEVEL: AtomicU8 = AtomicU8::new(if cfg!(test) { Level::Error } else { Level::Info } as u8);

/// What a line says beside its message.
pub type Fields<'a> = &'a [(&'static str, &'a dyn Display)];

pub fn error(message: &str, fields: Fields<'_>) {
    write(Level::Error, message, fields);
}

pub fn warn(message: &str, fields: Fields<'_>) {
    write(Level::Warn, message, fields);
}

pub fn info(message: &str, fields: Fields<'_>) {
    write(Level::Info, message, fields);
}

pub fn debug(message: &str, fields: Fields<'_>) {
    write(Level::Debug, message, fields);
}

pub fn set_level(level: Level) {
    LEVEL.store(level as u8, Ordering::Relaxed);
}

pub fn enabled(level: Level) -> bool {
    level as u8 <= LEVEL.load(Ordering::Relaxed)
}

pub fn level() -> Level {
    let levels = [Level::Error, Level::Warn, Level::Info];
    levels.into_iter().find(|level| *level as u8 == LEVEL.load(Ordering::Relaxed)).unwrap_or(Level::Debug)
}

fn write(level: Level, message: &str, fields: Fields<'_>) {
    if enabled(level) {
        // One write, so that lines of several threads do not mix. Nobody is left to tell if stderr is gone.
        let _ = std::io::stderr().write_all(line(level, message, fields).as_bytes());
    }
}

fn line(level: Level, message: &str, fields: Fields<'_>) -> String {
    let mut object = Map::new();
    object.insert("time".into(), clock::Rfc3339(clock::unix_now()).to_string().into());
    object.insert("level".into(), level.to_string().into());
    object.insert("message".into(), message.into());
    for (name, value) in fields {
        object.insert((*name).into(), value.to_string().into());
    }
    let mut line = Value::Object(object).to_string();
    line.push('\n');
    line
}

impl Level {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

impl Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a log level is error, warn, info or debug")]
pub struct UnknownLevel;

impl FromStr for Level {
    type Err = UnknownLevel;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "error" => Ok(Self::Error),
            "warn" => Ok(Self::Warn),
            "info" => Ok(Self::Info),
            "debug" => Ok(Self::Debug),
            _ => Err(UnknownLevel),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_json_object_whatever_its_fields_hold() {
        let line = line(Level::Warn, "odd", &[("path", &"/\"\n{"), ("count", &3)]);
        assert_eq!(line.matches('\n').count(), 1);
        let parsed: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(parsed["path"], "/\"\n{");
        assert_eq!(parsed["count"], "3");
        assert_eq!(parsed["level"], "warn");
    }
}
