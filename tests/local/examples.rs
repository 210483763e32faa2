//! Every example is a policy that works.

use std::path::Path;

use anyhow::Result;
use cloakroom_tests::local::binary;
use tokio::process::Command;

#[tokio::test]
async fn every_example_compiles() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut count = 0;
    for file in std::fs::read_dir(folder)? {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let checked = Command::new(binary()?).arg("check").arg("-f").arg(&path).output().await?;
            assert!(checked.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&checked.stderr));
            count += 1;
        }
    }
    assert!(count >= 5, "{count} examples");
    Ok(())
}
