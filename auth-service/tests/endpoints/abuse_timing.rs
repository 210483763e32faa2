//! Time must not tell which accounts exist: a statistical test, robust against a machine that is busy with other things.

use std::time::{Duration, Instant};

use http::Method;
use serde_json::json;

use crate::harness::{Browser, Service, encode};

const SHOP: &str = "https://shop.example.com";
const ROUNDS: usize = 40;

/// What each kind of name is compared with: an account that is there, with a wrong password.
const PRESENT: &str = "ann";
const OTHERS: [&str; 4] = ["nobody", "disabled", "nopassword", "ann@example.com"];

#[tokio::test]
async fn the_time_that_a_wrong_sign_in_takes_does_not_tell_which_accounts_exist() {
    let adjust = |config: &mut serde_json::Value| {
        config["passwords"] = json!({"memory_kib": 4096, "iterations": 2});
        config["limits"] = json!({"per_account": 100_000, "per_address": 100_000});
    };
    let service = Service::start_as(adjust, None).await;
    service.register_policy("shop/web", SHOP).await.expect(200);
    service.create_user(PRESENT).await;
    let disabled = service.create_user("disabled").await;
    service.admin(Method::PATCH, &format!("/users/{disabled}"), &json!({"disabled": true})).await.expect(200);
    service.admin(Method::POST, "/users", &json!({"username": "nopassword"})).await.expect(201);

    let mut present = Vec::new();
    let mut others = vec![Vec::new(); OTHERS.len()];
    for round in 0..ROUNDS {
        // Interleaved, so that whatever slows the machine down slows all of them down; in turning order, so that none is always first.
        for turn in 0..=OTHERS.len() {
            let at = (round + turn) % (OTHERS.len() + 1);
            match OTHERS.get(at) {
                Some(name) => others[at].push(attempt(&service, name, round).await),
                None => present.push(attempt(&service, PRESENT, round).await),
            }
        }
    }
    for (name, times) in OTHERS.iter().zip(&others) {
        let chance = chance_that_first_is_slower(&present, times);
        // By chance alone it is 0.5 with a standard deviation of 0.065; an account that is not hashed for makes it 1.
        assert!((0.2..0.8).contains(&chance), "{name} differs from {PRESENT}: {chance:.3}\n{present:?}\n{times:?}");
    }
}

/// The sign-in's own time, without the page before it.
async fn attempt(service: &Service, username: &str, round: usize) -> Duration {
    let mut browser = Browser::default();
    let to_page = browser.get(service, &service.push("shop/web", SHOP, &[]).await).await.expect(303);
    let page = browser.get(service, to_page.location()).await.expect(200);
    let (flow, csrf) = (page.field("flow").unwrap(), page.field("csrf").unwrap());
    let form = encode(&[("flow", &flow), ("csrf", &csrf), ("username", username), ("password", "a wrong guess")]);
    let address = format!("203.0.113.{round}");
    let started = Instant::now();
    browser.request_with(service, Method::POST, "/sign-in", &[("x-forwarded-for", &address)], form).await.expect(422);
    started.elapsed()
}

/// Mann and Whitney's U, divided by the number of pairs.
fn chance_that_first_is_slower(first: &[Duration], second: &[Duration]) -> f64 {
    let wins: f64 = first
        .iter()
        .flat_map(|one| second.iter().map(move |other| one.cmp(other)))
        .map(|order| match order {
            std::cmp::Ordering::Greater => 1.0,
            std::cmp::Ordering::Equal => 0.5,
            std::cmp::Ordering::Less => 0.0,
        })
        .sum();
    #[expect(clippy::cast_precision_loss, reason = "some thousand pairs")]
    let pairs = (first.len() * second.len()) as f64;
    wins / pairs
}

#[test]
fn the_test_would_notice() {
    let at = |millis: &[u64]| millis.iter().map(|one| Duration::from_millis(*one)).collect::<Vec<_>>();
    assert!(chance_that_first_is_slower(&at(&[10, 11, 12, 30]), &at(&[1, 2, 3, 4])) > 0.99);
    assert!((chance_that_first_is_slower(&at(&[1, 2, 3, 4]), &at(&[1, 2, 3, 4])) - 0.5).abs() < 1e-9);
}
