//! How surely we know who somebody is: what a sign-in has proved, what is demanded of it, what is still missing. Pure.

use cloakroom_protocol::acr::{MULTI_FACTOR, SINGLE_FACTOR};
use serde::{Deserialize, Serialize};

pub const SUPPORTED_ACR: [&str; 2] = [SINGLE_FACTOR, MULTI_FACTOR];

/// A way to prove who one is, as `amr` names it (RFC 8176 §2, which knows neither recovery codes nor other providers).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Method {
    #[serde(rename = "pwd")]
    Password,
    #[serde(rename = "otp")]
    Totp,
    #[serde(rename = "recovery")]
    RecoveryCode,
    /// A key that was proved to be held; only ever one whose device has verified the person.
    #[serde(rename = "pop")]
    Passkey,
    /// Another OpenID provider said who it is.
    #[serde(rename = "fed")]
    Provider,
    /// And that it had asked for two factors, where its word for that is taken.
    #[serde(rename = "fed-mfa")]
    ProviderMfa,
}

/// What was proved, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    pub methods: Vec<Method>,
    /// Unix seconds, of the oldest of them: a second factor does not make an old password fresh.
    pub at: u64,
}

impl Proof {
    pub fn of(method: Method, at: u64) -> Self {
        Self { methods: vec![method], at }
    }

    #[must_use]
    pub fn and(mut self, method: Method) -> Self {
        if !self.methods.contains(&method) {
            self.methods.push(method);
        }
        self
    }

    pub fn is_multi_factor(&self) -> bool {
        // What one has, together with what the device asked for: a PIN, a fingerprint.
        if self.methods.iter().any(|method| matches!(method, Method::Passkey | Method::ProviderMfa)) {
            return true;
        }
        let known = self.methods.iter().any(|method| matches!(method, Method::Password | Method::Provider));
        let held = self.methods.iter().any(|method| matches!(method, Method::Totp | Method::RecoveryCode));
        known && held
    }

    pub fn acr(&self) -> &'static str {
        if self.is_multi_factor() { MULTI_FACTOR } else { SINGLE_FACTOR }
    }

    /// Values of `amr`: each method, and `mfa` where they are factors of different kinds.
    pub fn amr(&self) -> Vec<String> {
        let mut amr: Vec<String> = self.methods.iter().map(|method| method.amr().to_owned()).collect();
        if self.is_multi_factor() {
            amr.push("mfa".to_owned());
        }
        amr
    }

    /// From a session's `amr` and `auth_time`.
    pub fn from_amr(amr: &[String], at: u64) -> Self {
        let all = [
            Method::Password,
            Method::Totp,
            Method::RecoveryCode,
            Method::Passkey,
            Method::Provider,
            Method::ProviderMfa,
        ];
        Self { methods: all.into_iter().filter(|method| amr.iter().any(|one| one == method.amr())).collect(), at }
    }
}

impl Method {
    fn amr(self) -> &'static str {
        match self {
            Self::Password => "pwd",
            Self::Totp => "otp",
            Self::RecoveryCode => "recovery",
            Self::Passkey => "pop",
            Self::Provider => "fed",
            Self::ProviderMfa => "fed-mfa",
        }
    }
}

/// What somebody asks of a sign-in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    pub mfa: bool,
    /// Seconds since the sign-in; 0: right now.
    pub max_age: Option<u64>,
    /// A sign-in from before does not count at all.
    pub anew: bool,
}

/// What has to be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    Nothing,
    SecondFactor,
    Everything,
}

impl Demand {
    pub fn missing(self, proof: &Proof, now: u64) -> Missing {
        let age = now.saturating_sub(proof.at);
        if self.anew || self.max_age.is_some_and(|most| most == 0 || age > most) {
            Missing::Everything
        } else if self.mfa && !proof.is_multi_factor() {
            Missing::SecondFactor
        } else {
            Missing::Nothing
        }
    }
}

/// Whether `acr_values` can only be met with two factors. Any of the values will do (OpenID Connect Core §3.1.2.1); unknown ones say
/// nothing.
pub fn demands_mfa(acr_values: Option<&str>) -> bool {
    let mut known = acr_values.unwrap_or_default().split(' ').filter(|acr| SUPPORTED_ACR.contains(acr)).peekable();
    known.peek().is_some() && known.all(|acr| acr == MULTI_FACTOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amr_says_what_happened_and_acr_what_it_comes_to() {
        let one = Proof::of(Method::Password, 1);
        assert_eq!((one.acr(), one.amr()), ("pwd", vec!["pwd".to_owned()]));
        let two = one.and(Method::Totp);
        assert_eq!((two.acr(), two.amr().join(" ").as_str()), ("mfa", "pwd otp mfa"));
        let other = Proof::of(Method::Password, 1).and(Method::RecoveryCode);
        assert_eq!((other.acr(), other.amr().join(" ").as_str()), ("mfa", "pwd recovery mfa"));
        assert_eq!(Proof::of(Method::Totp, 1).acr(), "pwd", "one factor is one factor, whichever");
        let key = Proof::of(Method::Passkey, 1);
        assert_eq!((key.acr(), key.amr().join(" ").as_str()), ("mfa", "pop mfa"));
        assert_eq!(Proof::from_amr(&two.amr(), 1), two);
        let elsewhere = Proof::of(Method::Provider, 1);
        assert_eq!((elsewhere.acr(), elsewhere.amr().join(" ").as_str()), ("pwd", "fed"));
        assert!(elsewhere.clone().and(Method::Totp).is_multi_factor());
        let elsewhere = elsewhere.and(Method::ProviderMfa);
        assert_eq!((elsewhere.acr(), elsewhere.amr().join(" ").as_str()), ("mfa", "fed fed-mfa mfa"));
        assert_eq!(Proof::from_amr(&elsewhere.amr(), 1), elsewhere);
    }

    #[test]
    fn only_what_is_missing_is_asked_for() {
        let (old, strong) = (Proof::of(Method::Password, 100), Proof::of(Method::Password, 100).and(Method::Totp));
        let mfa = Demand { mfa: true, ..Demand::default() };
        assert_eq!(Demand::default().missing(&old, 9999), Missing::Nothing);
        assert_eq!(mfa.missing(&old, 9999), Missing::SecondFactor);
        assert_eq!(mfa.missing(&strong, 9999), Missing::Nothing);
        let recent = Demand { mfa: true, max_age: Some(60), anew: false };
        assert_eq!(recent.missing(&strong, 161), Missing::Everything, "both are too old");
        assert_eq!(recent.missing(&strong, 160), Missing::Nothing);
        assert_eq!(Demand { max_age: Some(0), ..Demand::default() }.missing(&old, 100), Missing::Everything);
        assert_eq!(Demand { anew: true, ..Demand::default() }.missing(&strong, 100), Missing::Everything);
    }

    #[test]
    fn any_of_the_values_asked_for_will_do() {
        for (values, demanded) in [
            (None, false),
            (Some("pwd"), false),
            (Some("mfa"), true),
            (Some("mfa pwd"), false),
            (Some("phr mfa"), true),
            (Some("phr"), false),
            (Some(""), false),
        ] {
            assert_eq!(demands_mfa(values), demanded, "{values:?}");
        }
    }
}
