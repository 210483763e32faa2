//! Makes a function of every message, with its placeholders as arguments: a page that asks for a message that is not there, or gives it
//! something else than it needs, does not compile, and a message that no page asks for is dead code.

#[path = "src/messages/outline.rs"]
mod outline;

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;

use outline::{Kind, Placeholders, outline};

const ENGLISH: &str = "messages/en.ftl";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={ENGLISH}");
    println!("cargo::rerun-if-changed=src/messages/outline.rs");
    let english = outline(&std::fs::read_to_string(ENGLISH)?).map_err(|mistake| format!("{ENGLISH}:{mistake}"))?;
    let mut code = String::new();
    for (id, placeholders) in &english {
        function(&mut code, id, placeholders)?;
    }
    Ok(std::fs::write(Path::new(&std::env::var("OUT_DIR")?).join("say.rs"), code)?)
}

fn function(code: &mut String, id: &str, placeholders: &Placeholders) -> std::fmt::Result {
    if id.starts_with("scope-") {
        // Asked for by the scope's name, which is known at run time only.
        return Ok(());
    }
    // By name, not as they stand in the text: whoever rewords it does not change what a caller means.
    let (mut parameters, mut arguments) = (String::new(), String::new());
    for (name, kind) in placeholders {
        let of = match kind {
            Kind::Text => "Words",
            Kind::Count => "Count",
        };
        write!(parameters, "{name}: impl {of}, ")?;
        write!(arguments, "(\"{name}\", {of}::argument(&{name})), ")?;
    }
    let name = id.replace('-', "_");
    writeln!(code, "pub(crate) fn {name}({parameters}) -> Sentence {{ Sentence::new(\"{id}\", vec![{arguments}]) }}")
}
