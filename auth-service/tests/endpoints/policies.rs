//! The operator registers policies.

use http::Method;
use serde_json::json;

use crate::harness::{Service, policy_body};

#[tokio::test]
async fn registering_is_idempotent_and_listed() {
    let service = Service::start().await;
    for _ in 0..2 {
        let answer = service.register_policy("shop/web", "https://shop.example.com").await.expect(200).json();
        assert_eq!(answer, json!({"policy": "shop/web", "revision": "1"}));
    }
    let list = || async {
        service
            .internal_json(Method::GET, "/internal/v1/policies", &service.operator(), &json!({}))
            .await
            .expect(200)
            .json()
    };
    assert_eq!(list().await, json!([{"policy": "shop/web", "revision": "1"}]));
    for _ in 0..2 {
        service
            .internal_json(Method::DELETE, "/internal/v1/policies/shop/web", &service.operator(), &json!({}))
            .await
            .expect(204);
    }
    assert_eq!(list().await, json!([]));
}

#[tokio::test]
async fn what_another_namespace_holds_is_a_conflict_with_its_name_in_it() {
    let service = Service::start().await;
    service.register_policy("shop/web", "https://shop.example.com").await.expect(200);
    let answer = service.register_policy("evil/web", "https://shop.example.com").await.expect(409);
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert!(answer.json()["detail"].as_str().unwrap().contains("shop"), "{}", answer.body);
    let mut body = policy_body("evil/web", "https://evil.example.com");
    body["audience"] = json!("shop/web");
    service.register(&body).await.expect(422);
}

#[tokio::test]
async fn what_cannot_be_accepted_is_told_in_a_sentence() {
    let service = Service::start().await;
    for (field, value) in [
        ("origins", json!(["http://shop.example.com"])),
        ("origins", json!(["https://shop.example.com/path"])),
        ("audience", json!("")),
        ("session", json!({"idle_seconds": 0, "absolute_seconds": 1})),
        ("jwt", json!({"lifetime_seconds": 60, "claims": ["sub"]})),
        ("jwt", json!({"lifetime_seconds": 86400, "claims": []})),
    ] {
        let mut body = policy_body("shop/web", "https://shop.example.com");
        body[field] = value;
        let answer = service.register(&body).await.expect(422).json();
        assert!(answer["detail"].as_str().unwrap().len() > 10, "{answer}");
    }
    let body = policy_body("shop/web", "https://shop.example.com");
    service
        .internal_json(Method::PUT, "/internal/v1/policies/shop/other", &service.operator(), &body)
        .await
        .expect(400);
    service.internal_json(Method::PUT, "/internal/v1/policies/Shop/web", &service.operator(), &body).await.expect(400);
}
