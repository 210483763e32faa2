//! Passkeys: what a relying party checks of a registration and of an assertion (Web Authentication Level 3, §7.1 and §7.2). Pure.
//!
//! Attestation is not asked for: whoever makes the key is the person's choice, and the answer to `none` proves nothing anyway. So the
//! public key is taken as the browser hands it out (§5.2.1.1), and no CBOR is read.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, VerificationAlgorithm,
};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// COSE algorithms (RFC 9053, RFC 8812), the preferred one first.
pub const ALGORITHMS: [i64; 3] = [-7, -8, -257];

const MAX_CREDENTIAL_ID: usize = 1023;
const MAX_PUBLIC_KEY: usize = 2048;

/// `rpIdHash`, flags, counter.
const FIXED: usize = 32 + 1 + 4;
/// AAGUID, length of the id.
const ATTESTED: usize = 16 + 2;

const USER_PRESENT: u8 = 0x01;
const USER_VERIFIED: u8 = 0x04;
const BACKED_UP: u8 = 0x10;
const ATTESTED_DATA: u8 = 0x40;

/// Who relies on the keys: this service.
#[derive(Clone, Debug)]
pub struct Party {
    /// The domain that keys are for.
    pub id: String,
    pub origin: String,
}

impl Party {
    /// Keys are for domains; an issuer that is an IP address has none.
    pub fn of_issuer(issuer: &str) -> Option<Self> {
        let url = url::Url::parse(issuer).ok()?;
        let url::Host::Domain(id) = url.host()? else { return None };
        Some(Self { id: id.to_owned(), origin: url.origin().ascii_serialization() })
    }
}

/// What `navigator.credentials.create()` gave.
pub struct Registration<'a> {
    pub client_data: &'a [u8],
    pub authenticator_data: &'a [u8],
    /// `SubjectPublicKeyInfo`.
    pub public_key: &'a [u8],
    pub algorithm: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    pub credential_id: Vec<u8>,
    pub count: u32,
    /// Whether it is kept in more than one place.
    pub backed_up: bool,
}

/// What `navigator.credentials.get()` gave.
pub struct Assertion<'a> {
    pub client_data: &'a [u8],
    pub authenticator_data: &'a [u8],
    pub signature: &'a [u8],
}

/// What is known of a key.
pub struct KnownKey<'a> {
    pub public_key: &'a [u8],
    pub algorithm: i64,
    pub count: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("not what an authenticator sends")]
    Malformed,
    #[error("for another ceremony")]
    Type,
    #[error("not the challenge of this page")]
    Challenge,
    #[error("from another origin, or from within another page")]
    Origin,
    #[error("for another relying party")]
    Party,
    #[error("nobody was there")]
    Presence,
    #[error("the authenticator did not verify who was there")]
    Verification,
    #[error("a kind of key that was not asked for")]
    Key,
    #[error("the signature is wrong")]
    Signature,
    #[error("the counter went back: the key may have been copied")]
    Cloned,
}

#[derive(Deserialize)]
struct ClientData {
    #[serde(rename = "type")]
    kind: String,
    challenge: String,
    origin: String,
    #[serde(default, rename = "crossOrigin")]
    cross_origin: bool,
}

/// `challenge` in base64url, as the page had it.
pub fn register(party: &Party, challenge: &str, sent: &Registration<'_>) -> Result<NewKey, Refused> {
    check_client_data(party, "webauthn.create", challenge, sent.client_data)?;
    let Authenticated { flags, count, rest } = check_authenticator(party, sent.authenticator_data)?;
    if flags & ATTESTED_DATA == 0 || rest.len() < ATTESTED {
        return Err(Refused::Malformed);
    }
    let len = usize::from(u16::from_be_bytes([rest[16], rest[17]]));
    let credential_id = rest.get(ATTESTED..ATTESTED + len).filter(|_| (1..=MAX_CREDENTIAL_ID).contains(&len));
    let credential_id = credential_id.ok_or(Refused::Malformed)?.to_vec();
    parse_key(sent.algorithm, sent.public_key)?;
    Ok(NewKey { credential_id, count, backed_up: flags & BACKED_UP != 0 })
}

/// The key's new counter.
pub fn verify(party: &Party, challenge: &str, key: &KnownKey<'_>, sent: &Assertion<'_>) -> Result<u32, Refused> {
    check_client_data(party, "webauthn.get", challenge, sent.client_data)?;
    let Authenticated { count, .. } = check_authenticator(party, sent.authenticator_data)?;
    let mut signed = sent.authenticator_data.to_vec();
    signed.extend_from_slice(&Sha256::digest(sent.client_data));
    let public_key = parse_key(key.algorithm, key.public_key)?;
    public_key.verify_sig(&signed, sent.signature).map_err(|_| Refused::Signature)?;
    // Passkeys that are synchronised have no counter and send 0 (§6.1.1).
    if (count != 0 || key.count != 0) && count <= key.count {
        return Err(Refused::Cloned);
    }
    Ok(count)
}

fn check_client_data(party: &Party, kind: &str, challenge: &str, json: &[u8]) -> Result<(), Refused> {
    let data: ClientData = serde_json::from_slice(json).map_err(|_| Refused::Malformed)?;
    if data.kind != kind {
        return Err(Refused::Type);
    }
    if !bool::from(data.challenge.as_bytes().ct_eq(challenge.as_bytes())) {
        return Err(Refused::Challenge);
    }
    if data.origin != party.origin || data.cross_origin {
        return Err(Refused::Origin);
    }
    Ok(())
}

struct Authenticated<'a> {
    flags: u8,
    count: u32,
    rest: &'a [u8],
}

fn check_authenticator<'a>(party: &Party, data: &'a [u8]) -> Result<Authenticated<'a>, Refused> {
    let Some((fixed, rest)) = data.split_at_checked(FIXED) else { return Err(Refused::Malformed) };
    if fixed[..32] != Sha256::digest(&party.id)[..] {
        return Err(Refused::Party);
    }
    let flags = fixed[32];
    if flags & USER_PRESENT == 0 {
        return Err(Refused::Presence);
    }
    // Having the device is one factor; only together with its PIN or a fingerprint is it two.
    if flags & USER_VERIFIED == 0 {
        return Err(Refused::Verification);
    }
    let count = u32::from_be_bytes([fixed[33], fixed[34], fixed[35], fixed[36]]);
    Ok(Authenticated { flags, count, rest })
}

fn parse_key(algorithm: i64, spki: &[u8]) -> Result<ParsedPublicKey, Refused> {
    let algorithm: &'static dyn VerificationAlgorithm = match algorithm {
        -7 => &ECDSA_P256_SHA256_ASN1,
        -8 => &ED25519,
        -257 => &RSA_PKCS1_2048_8192_SHA256,
        _ => return Err(Refused::Key),
    };
    if spki.len() > MAX_PUBLIC_KEY {
        return Err(Refused::Key);
    }
    ParsedPublicKey::new(algorithm, spki).map_err(|_| Refused::Key)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    const CHALLENGE: &str = "Y2hhbGxlbmdl";

    fn party() -> Party {
        Party::of_issuer("https://auth.example.com").unwrap()
    }

    /// An authenticator that does as it is told.
    struct Device {
        key: EcdsaKeyPair,
        spki: Vec<u8>,
    }

    impl Device {
        fn new() -> Self {
            let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
            let spki = AsDer::<PublicKeyX509Der<'_>>::as_der(key.public_key()).unwrap().as_ref().to_vec();
            Self { key, spki }
        }

        fn assert(&self, client_data: &[u8], data: &[u8]) -> Vec<u8> {
            let signed = [data, &Sha256::digest(client_data)[..]].concat();
            self.key.sign(&SystemRandom::new(), &signed).unwrap().as_ref().to_vec()
        }

        fn known(&self, count: u32) -> KnownKey<'_> {
            KnownKey { public_key: &self.spki, algorithm: -7, count }
        }
    }

    fn client_data(kind: &str, change: &Value) -> Vec<u8> {
        let mut data = json!({"type": kind, "challenge": CHALLENGE, "origin": "https://auth.example.com", "new": [1]});
        data.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        data.to_string().into_bytes()
    }

    fn authenticator_data(id: &str, flags: u8, count: u32) -> Vec<u8> {
        [&Sha256::digest(id)[..], &[flags], &count.to_be_bytes()].concat()
    }

    fn attested(flags: u8) -> Vec<u8> {
        [&authenticator_data("auth.example.com", flags, 0)[..], &[0; 16], &[0, 4], b"id-1", b"the key in CBOR"].concat()
    }

    fn registration<'a>(device: &'a Device, client_data: &'a [u8], data: &'a [u8]) -> Registration<'a> {
        Registration { client_data, authenticator_data: data, public_key: &device.spki, algorithm: -7 }
    }

    #[test]
    fn a_key_is_registered_and_signs_in() {
        let device = Device::new();
        let (client, data) = (client_data("webauthn.create", &json!({})), attested(0x5d));
        let new = register(&party(), CHALLENGE, &registration(&device, &client, &data)).unwrap();
        assert_eq!(new, NewKey { credential_id: b"id-1".to_vec(), count: 0, backed_up: true });
        let (client, data) = (client_data("webauthn.get", &json!({})), authenticator_data("auth.example.com", 0x05, 7));
        let signature = device.assert(&client, &data);
        let sent = Assertion { client_data: &client, authenticator_data: &data, signature: &signature };
        assert_eq!(verify(&party(), CHALLENGE, &device.known(6), &sent), Ok(7));
        assert_eq!(verify(&party(), CHALLENGE, &device.known(7), &sent), Err(Refused::Cloned));
        assert_eq!(verify(&party(), CHALLENGE, &Device::new().known(0), &sent), Err(Refused::Signature));
    }

    #[rstest]
    #[case(json!({"type": "webauthn.create"}), Refused::Type)]
    #[case(json!({"challenge": "b3RoZXI"}), Refused::Challenge)]
    #[case(json!({"challenge": ""}), Refused::Challenge)]
    #[case(json!({"origin": "https://evil.example"}), Refused::Origin)]
    #[case(json!({"origin": "https://auth.example.com.evil.example"}), Refused::Origin)]
    #[case(json!({"origin": "http://auth.example.com"}), Refused::Origin)]
    #[case(json!({"crossOrigin": true}), Refused::Origin)]
    #[case(json!({"origin": null}), Refused::Malformed)]
    fn what_the_browser_says_must_fit(#[case] change: Value, #[case] refused: Refused) {
        let device = Device::new();
        let (client, data) = (client_data("webauthn.get", &change), authenticator_data("auth.example.com", 0x05, 0));
        let signature = device.assert(&client, &data);
        let sent = Assertion { client_data: &client, authenticator_data: &data, signature: &signature };
        assert_eq!(verify(&party(), CHALLENGE, &device.known(0), &sent), Err(refused));
    }

    #[rstest]
    #[case(authenticator_data("evil.example", 0x05, 0), Refused::Party)]
    #[case(authenticator_data("auth.example.com", 0x04, 0), Refused::Presence)]
    #[case(authenticator_data("auth.example.com", 0x01, 0), Refused::Verification)]
    #[case(Vec::new(), Refused::Malformed)]
    #[case(authenticator_data("auth.example.com", 0x05, 0)[..36].to_vec(), Refused::Malformed)]
    fn what_the_authenticator_says_must_fit(#[case] data: Vec<u8>, #[case] refused: Refused) {
        let device = Device::new();
        let client = client_data("webauthn.get", &json!({}));
        let signature = device.assert(&client, &data);
        let sent = Assertion { client_data: &client, authenticator_data: &data, signature: &signature };
        assert_eq!(verify(&party(), CHALLENGE, &device.known(0), &sent), Err(refused));
    }

    #[test]
    fn a_changed_byte_is_noticed_wherever_it_is() {
        let device = Device::new();
        let (client, data) = (client_data("webauthn.get", &json!({})), authenticator_data("auth.example.com", 0x05, 1));
        let signature = device.assert(&client, &data);
        let later = authenticator_data("auth.example.com", 0x05, 2);
        let spaced = [b" ", &client[..]].concat();
        let mut forged = signature.clone();
        *forged.last_mut().unwrap() ^= 1;
        for (client_data, authenticator_data, signature) in
            [(&client, &later, &signature), (&spaced, &data, &signature), (&client, &data, &forged)]
        {
            let sent = Assertion { client_data, authenticator_data, signature };
            assert_eq!(verify(&party(), CHALLENGE, &device.known(0), &sent), Err(Refused::Signature));
        }
    }

    #[test]
    fn a_registration_needs_an_id_and_a_key_of_a_kind_that_was_asked_for() {
        let device = Device::new();
        let client = client_data("webauthn.create", &json!({}));
        let data = attested(0x45);
        for (data, refused) in [
            (attested(0x05), Refused::Malformed),
            (data[..FIXED + 10].to_vec(), Refused::Malformed),
            (data[..FIXED + ATTESTED + 3].to_vec(), Refused::Malformed),
        ] {
            assert_eq!(register(&party(), CHALLENGE, &registration(&device, &client, &data)), Err(refused));
        }
        for (algorithm, public_key) in
            [(-8, &device.spki[..]), (-7, &b"x"[..]), (-65_535, &device.spki[..]), (0, &device.spki[..])]
        {
            let sent = Registration { public_key, algorithm, ..registration(&device, &client, &data) };
            assert_eq!(register(&party(), CHALLENGE, &sent), Err(Refused::Key));
        }
    }

    #[test]
    fn keys_are_for_domains() {
        assert_eq!(Party::of_issuer("https://auth.example.com:8443").unwrap().id, "auth.example.com");
        assert_eq!(Party::of_issuer("http://localhost:8001").unwrap().origin, "http://localhost:8001");
        assert!(Party::of_issuer("http://127.0.0.1:8001").is_none());
    }
}
