//! A real browser: Chromium from Debian, driven by its own driver.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

const DRIVERS: usize = 5;

pub struct Chromium {
    pub client: Client,
    _driver: Child,
}

impl Chromium {
    pub async fn start() -> Result<Self> {
        let (driver, port) = driver().await?;
        let flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--no-default-browser-check",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-extensions",
            "--window-size=1000,900",
        ];
        let options = json!({ "args": flags });
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities([("goog:chromeOptions".to_owned(), options)].into_iter().collect())
            .connect(&format!("http://127.0.0.1:{port}"))
            .await?;
        Ok(Self { client, _driver: driver })
    }

    /// Keeps a picture of the page where `CLOAKROOM_SCREENSHOTS` names a folder.
    pub async fn picture(&self, name: &str) -> Result<()> {
        if let Some(folder) = std::env::var_os("CLOAKROOM_SCREENSHOTS") {
            std::fs::write(Path::new(&folder).join(name), self.client.screenshot().await?)?;
        }
        Ok(())
    }

    pub async fn close(self) -> Result<()> {
        Ok(self.client.close().await?)
    }
}

/// A driver and its port. It takes a free one for IPv6 and gives up where IPv4 has that one in use, so that another may have more luck.
async fn driver() -> Result<(Child, String)> {
    for _ in 0..DRIVERS {
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut driver = command.spawn().context("chromedriver")?;
        let mut lines = BufReader::new(driver.stdout.take().context("no output")?).lines();
        while let Some(line) = lines.next_line().await? {
            if let Some((_, port)) = line.strip_suffix('.').and_then(|line| line.rsplit_once("successfully on port ")) {
                return Ok((driver, port.to_owned()));
            }
        }
    }
    bail!("none of {DRIVERS} drivers came up")
}
