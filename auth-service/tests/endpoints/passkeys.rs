//! Passkeys at the endpoints, with an authenticator made of software; the browser's own is in `tests/sign_in`.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::harness::{Answer, Browser, ISSUER, PASSWORD, Service, verify};

const SHOP: &str = "https://shop.example.com";
const VERIFIED: u8 = 0x05;
const PRESENT_ONLY: u8 = 0x01;

pub(crate) struct Authenticator {
    key: EcdsaKeyPair,
    id: &'static [u8],
    user: String,
}

/// The value of a data attribute of the page's form.
fn data(page: &Answer, name: &str) -> String {
    let (_, rest) = page.body.split_once(&format!("data-{name}=\"")).unwrap_or_else(|| panic!("{name}: {}", page.body));
    rest.split_once('"').unwrap().0.to_owned()
}

fn client_data(kind: &str, challenge: &str) -> String {
    json!({"type": kind, "challenge": challenge, "origin": ISSUER, "crossOrigin": false}).to_string()
}

fn authenticator_data(flags: u8, count: u32) -> Vec<u8> {
    [&Sha256::digest("localhost")[..], &[flags], &count.to_be_bytes()].concat()
}

impl Authenticator {
    pub(crate) fn new(id: &'static [u8]) -> Self {
        Self { key: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap(), id, user: String::new() }
    }

    async fn add(&mut self, service: &Service, browser: &mut Browser) -> Answer {
        let page = browser.get(service, "/account/passkeys").await.expect(200);
        self.add_at(service, browser, &page, "/account/passkeys").await
    }

    /// At a page that offers to make a passkey.
    pub(crate) async fn add_at(
        &mut self,
        service: &Service,
        browser: &mut Browser,
        page: &Answer,
        url: &str,
    ) -> Answer {
        self.user = data(page, "user");
        let client_data = client_data("webauthn.create", &data(page, "challenge"));
        let len = u16::try_from(self.id.len()).unwrap().to_be_bytes();
        let data = [&authenticator_data(VERIFIED | 0x40, 0)[..], &[0; 16], &len, self.id, b"CBOR"].concat();
        let spki = AsDer::<PublicKeyX509Der<'_>>::as_der(self.key.public_key()).unwrap();
        let (flow, csrf) = (page.field("flow").unwrap(), page.field("csrf").unwrap());
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let form = [
            ("flow", flow),
            ("csrf", csrf),
            ("client_data", encode(client_data.as_bytes())),
            ("authenticator_data", encode(&data)),
            ("public_key", encode(spki.as_ref())),
            ("algorithm", "-7".to_owned()),
            ("name", "Key <1>".to_owned()),
        ];
        let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
        browser.post(service, url, &form).await
    }

    /// Signs in with nothing else, at the page that a redirect leads to.
    pub(crate) async fn sign_in(&self, service: &Service, browser: &mut Browser, to_page: &Answer) -> Answer {
        let page = browser.get(service, to_page.location()).await.expect(200);
        post(service, browser, "/sign-in/passkey", &self.answer(&page, VERIFIED, 1)).await
    }

    /// What the page's script sends.
    fn answer(&self, page: &Answer, flags: u8, count: u32) -> Vec<(&'static str, String)> {
        let client_data = client_data("webauthn.get", &data(page, "challenge"));
        let data = authenticator_data(flags, count);
        let signed = [&data[..], &Sha256::digest(&client_data)[..]].concat();
        let signature = self.key.sign(&SystemRandom::new(), &signed).unwrap();
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        vec![
            ("flow", page.field("flow").unwrap()),
            ("csrf", page.field("csrf").unwrap()),
            ("credential", encode(self.id)),
            ("client_data", encode(client_data.as_bytes())),
            ("authenticator_data", encode(&data)),
            ("signature", encode(signature.as_ref())),
            ("user_handle", encode(self.user.as_bytes())),
        ]
    }
}

async fn post(service: &Service, browser: &mut Browser, url: &str, form: &[(&'static str, String)]) -> Answer {
    let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
    browser.post(service, url, &form).await
}

async fn sign_in_page(service: &Service, browser: &mut Browser) -> Answer {
    let to_page = browser.get(service, &service.push("shop/web", SHOP, &[]).await).await.expect(303);
    browser.get(service, to_page.location()).await.expect(200)
}

/// A service, and a key of ann's.
async fn enrolled() -> (Service, Authenticator) {
    let service = Service::start().await;
    service.register_policy("shop/web", SHOP).await.expect(200);
    service.create_user("ann").await;
    let mut browser = Browser::default();
    service.sign_in_at(&mut browser, "shop/web", SHOP, "ann").await;
    let mut key = Authenticator::new(b"ann's key");
    let codes = key.add(&service, &mut browser).await.expect(200);
    assert_eq!(codes.body.matches("<li><code>").count(), 10, "recovery codes with the first factor");
    assert!(browser.get(&service, "/account").await.expect(200).body.contains("Key &#60;1&#62;"));
    (service, key)
}

#[tokio::test]
async fn a_passkey_signs_in_by_itself_and_counts_as_two_factors() {
    let (service, key) = enrolled().await;
    let mut browser = Browser::default();
    let page = sign_in_page(&service, &mut browser).await;
    let back = post(&service, &mut browser, "/sign-in/passkey", &key.answer(&page, VERIFIED, 1)).await.expect(303);
    let code = back.location_parameter("code").unwrap();
    let token = service.exchange("shop/web", SHOP, &code).await.expect(200).json();
    let active = service.introspect(token["session_token"].as_str().unwrap(), "shop/web").await;
    let claims = verify(&service, active["jwt"].as_str().unwrap(), "shop/web").await;
    assert_eq!((&claims["acr"], &claims["amr"]), (&json!("mfa"), &json!(["pop", "mfa"])));
}

#[tokio::test]
async fn an_answer_is_good_once_and_only_for_the_page_that_asked() {
    let (service, key) = enrolled().await;
    let mut browser = Browser::default();
    let page = sign_in_page(&service, &mut browser).await;
    let other = sign_in_page(&service, &mut browser).await;
    let answer = key.answer(&page, VERIFIED, 0);
    let mut elsewhere = answer.clone();
    elsewhere[0].1 = other.field("flow").unwrap();
    elsewhere[1].1 = other.field("csrf").unwrap();
    post(&service, &mut browser, "/sign-in/passkey", &elsewhere).await.expect(422);
    let mut thief = Browser::default();
    let theirs = sign_in_page(&service, &mut thief).await;
    elsewhere[0].1 = theirs.field("flow").unwrap();
    elsewhere[1].1 = theirs.field("csrf").unwrap();
    post(&service, &mut thief, "/sign-in/passkey", &elsewhere).await.expect(422);
    post(&service, &mut thief, "/sign-in/passkey", &answer).await.expect(400);
    post(&service, &mut browser, "/sign-in/passkey", &answer).await.expect(303);
    post(&service, &mut browser, "/sign-in/passkey", &answer).await.expect(400);
}

#[tokio::test]
async fn whoever_cannot_unlock_the_device_or_holds_another_key_stays_out() {
    let (service, key) = enrolled().await;
    service.create_user("mallory").await;
    let mut mallorys = Browser::default();
    service.sign_in_at(&mut mallorys, "shop/web", SHOP, "mallory").await;
    let mut other = Authenticator::new(b"mallory's key");
    other.add(&service, &mut mallorys).await.expect(200);
    let impostor = Authenticator { user: key.user.clone(), ..Authenticator::new(b"ann's key") };
    let foreign = Authenticator { user: key.user.clone(), ..other };
    let nobody = Authenticator { user: "nobody".to_owned(), ..Authenticator::new(b"ann's key") };
    let mut browser = Browser::default();
    let page = sign_in_page(&service, &mut browser).await;
    for answer in [
        key.answer(&page, PRESENT_ONLY, 1),
        impostor.answer(&page, VERIFIED, 1),
        foreign.answer(&page, VERIFIED, 1),
        nobody.answer(&page, VERIFIED, 1),
    ] {
        let refused = post(&service, &mut browser, "/sign-in/passkey", &answer).await.expect(422);
        assert!(refused.body.contains("not known here"));
    }
    let mut junk = key.answer(&page, VERIFIED, 1);
    for at in 2..7 {
        let kept = std::mem::replace(&mut junk[at].1, "é%".to_owned());
        post(&service, &mut browser, "/sign-in/passkey", &junk).await.expect(422);
        junk[at].1 = kept;
    }
    post(&service, &mut browser, "/sign-in/passkey", &junk).await.expect(303);
}

#[tokio::test]
async fn a_counter_that_goes_back_is_a_copy_and_a_disabled_person_stays_out() {
    let (service, key) = enrolled().await;
    for (count, status) in [(7, 303), (7, 422), (6, 422), (8, 303)] {
        let mut browser = Browser::default();
        let page = sign_in_page(&service, &mut browser).await;
        post(&service, &mut browser, "/sign-in/passkey", &key.answer(&page, VERIFIED, count)).await.expect(status);
    }
    service.admin(Method::PATCH, &format!("/users/{}", key.user), &json!({"disabled": true})).await.expect(200);
    let mut browser = Browser::default();
    let page = sign_in_page(&service, &mut browser).await;
    post(&service, &mut browser, "/sign-in/passkey", &key.answer(&page, VERIFIED, 9)).await.expect(422);
}

#[tokio::test]
async fn a_passkey_is_a_second_factor_and_no_second_factor_once_it_is_removed() {
    let (service, key) = enrolled().await;
    let mut browser = Browser::default();
    let to_page = browser.get(&service, &service.push("shop/web", SHOP, &[]).await).await.expect(303);
    let to_second = browser.sign_in(&service, &to_page, "ann", PASSWORD).await.expect(303);
    let page = browser.get(&service, to_second.location()).await.expect(200);
    assert!(!page.body.contains("Six-digit code") && page.body.contains("Use a passkey"));
    assert_eq!(data(&page, "allow"), URL_SAFE_NO_PAD.encode(key.id));
    post(&service, &mut browser, "/second-factor/passkey", &key.answer(&page, PRESENT_ONLY, 1)).await.expect(422);
    let back = post(&service, &mut browser, "/second-factor/passkey", &key.answer(&page, VERIFIED, 1)).await;
    assert!(back.expect(303).location_parameter("code").is_some());
    let csrf = browser.get(&service, "/account/passkeys").await.expect(200).field("csrf").unwrap();
    let remove = [("csrf", csrf), ("passkey", URL_SAFE_NO_PAD.encode(key.id))];
    post(&service, &mut browser, "/account/passkeys/remove", &remove).await.expect(303);
    let mut browser = Browser::default();
    let to_page = browser.get(&service, &service.push("shop/web", SHOP, &[]).await).await.expect(303);
    let back = browser.sign_in(&service, &to_page, "ann", PASSWORD).await.expect(303);
    assert!(back.location_parameter("code").is_some());
}

#[tokio::test]
async fn an_issuer_without_a_domain_offers_no_passkeys() {
    let service = Service::start_as(|config| config["issuer"] = json!("http://127.0.0.1:8001"), None).await;
    service.register_policy("shop/web", SHOP).await.expect(200);
    let page = sign_in_page(&service, &mut Browser::default()).await;
    assert!(!page.body.contains("passkey") && !page.header("content-security-policy").contains("script"));
}
