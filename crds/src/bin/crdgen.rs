//! Writes the generated YAML: `cargo run -p cloakroom-crds --bin crdgen`.

fn main() -> std::io::Result<()> {
    for file in cloakroom_crds::yaml::files() {
        std::fs::write(file.path(), file.text)?;
    }
    Ok(())
}
