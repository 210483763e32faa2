//! Times, devices and receipts as people say them.

use cloakroom_protocol::revocation::Receipt;
use serde::{Deserialize, Serialize};

/// Roughly what the browser says that it is.
pub fn device(user_agent: &str) -> String {
    let find = |names: &[(&str, &'static str)]| {
        names.iter().find(|(mark, _)| user_agent.contains(mark)).map(|(_, name)| *name)
    };
    let browser = find(&[
        ("Firefox/", "Firefox"),
        ("Edg/", "Edge"),
        ("OPR/", "Opera"),
        ("SamsungBrowser/", "Samsung Internet"),
        ("Chrome/", "Chrome"),
        ("CriOS/", "Chrome"),
        ("FxiOS/", "Firefox"),
        ("Safari/", "Safari"),
        ("curl/", "curl"),
    ]);
    let system = find(&[
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Android", "Android"),
        ("Windows", "Windows"),
        ("CrOS", "ChromeOS"),
        ("Mac OS X", "macOS"),
        ("Linux", "Linux"),
    ]);
    match (browser, system) {
        (Some(browser), Some(system)) => format!("{browser} on {system}"),
        (Some(one), None) | (None, Some(one)) => one.to_owned(),
        (None, None) => "Unknown device".to_owned(),
    }
}

pub fn ago(seconds: u64) -> String {
    let (count, unit) = match seconds {
        0..60 => return "just now".to_owned(),
        60..3600 => (seconds / 60, "minute"),
        3600..86_400 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{count} {unit}{} ago", if count == 1 { "" } else { "s" })
}

/// A receipt on its way through a redirect: numbers only, so that a made-up link can put no words on our page.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
pub struct Told {
    #[serde(default)]
    pub gateways: Option<u32>,
    #[serde(default)]
    pub confirmed: Option<u32>,
}

impl Told {
    /// A sidecar that has lost its lease asks anew before it lets anybody in, which is as good as having heard.
    pub fn by(receipt: &Receipt) -> Self {
        let number = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        let confirmed = receipt.acknowledged + receipt.lost_lease;
        Self { gateways: Some(number(receipt.connected.max(confirmed))), confirmed: Some(number(confirmed)) }
    }

    pub fn query(self) -> String {
        format!("gateways={}&confirmed={}", self.gateways.unwrap_or(0), self.confirmed.unwrap_or(0))
    }

    /// What it means; nothing where there is nothing to tell.
    pub fn sentence(self) -> Option<String> {
        match (self.gateways?, self.confirmed?) {
            (0, _) => None,
            (1, 1) => Some("The one gateway in front of your apps has confirmed it.".to_owned()),
            (all, confirmed) if confirmed >= all => {
                Some(format!("All {all} gateways in front of your apps have confirmed it."))
            }
            (all, confirmed) => Some(format!(
                "{confirmed} of {all} gateways in front of your apps have confirmed it; the others follow within seconds."
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_devices_read_like_sentences() {
        assert_eq!(
            (ago(5).as_str(), ago(60).as_str(), ago(7200).as_str()),
            ("just now", "1 minute ago", "2 hours ago")
        );
        assert_eq!(
            device("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
            "Firefox on Linux"
        );
        assert_eq!(device(""), "Unknown device");
    }

    #[test]
    fn a_receipt_says_how_many_know() {
        let told = |gateways, confirmed| Told { gateways: Some(gateways), confirmed: Some(confirmed) }.sentence();
        assert_eq!(told(0, 0), None);
        assert_eq!(Told::default().sentence(), None);
        assert!(told(3, 3).unwrap().starts_with("All 3 gateways"));
        assert!(told(3, 1).unwrap().starts_with("1 of 3 gateways"));
    }
}
