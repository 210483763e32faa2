//! Times, devices and receipts as people say them.

use cloakroom_protocol::revocation::Receipt;
use serde::{Deserialize, Serialize};

use crate::messages::{Sentence, say};

/// Roughly what the browser says that it is.
pub fn device(user_agent: &str) -> Sentence {
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
        (Some(browser), Some(system)) => say::browser_on_system(browser, system),
        (Some(one), None) | (None, Some(one)) => Sentence::verbatim(one),
        (None, None) => say::unknown_device(),
    }
}

pub fn ago(seconds: u64) -> Sentence {
    match seconds {
        0..60 => say::just_now(),
        60..3600 => say::minutes_ago(seconds / 60),
        3600..86_400 => say::hours_ago(seconds / 3600),
        _ => say::days_ago(seconds / 86_400),
    }
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
    pub fn sentence(self) -> Option<Sentence> {
        match (self.gateways?, self.confirmed?) {
            (0, _) => None,
            (1, 1) => Some(say::gateway_confirmed()),
            (all, confirmed) if confirmed >= all => Some(say::gateways_confirmed(all)),
            (all, confirmed) => Some(say::gateways_confirmed_some(confirmed, all)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_devices_read_like_sentences() {
        assert_eq!([5, 60, 7200].map(|seconds| ago(seconds).to_string()), ["just now", "1 minute ago", "2 hours ago"]);
        assert_eq!(
            device("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0").to_string(),
            "Firefox on Linux"
        );
        assert_eq!(device("").to_string(), "Unknown device");
    }

    #[test]
    fn a_receipt_says_how_many_know() {
        let told = |gateways, confirmed| Told { gateways: Some(gateways), confirmed: Some(confirmed) }.sentence();
        assert_eq!(told(0, 0), None);
        assert_eq!(Told::default().sentence(), None);
        assert!(told(3, 3).unwrap().to_string().starts_with("All 3 gateways"));
        assert!(told(3, 1).unwrap().to_string().starts_with("1 of 3 gateways"));
    }
}
