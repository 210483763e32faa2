//! The admin API.

use http::Method;
use serde_json::json;

use crate::harness::{Browser, PASSWORD, Service};

const SHOP: &str = "https://shop.example.com";

async fn shop() -> (Service, String) {
    let service = Service::start().await;
    service.register_policy("shop/web", SHOP).await.expect(200);
    let user = service.create_user("ann").await;
    (service, user)
}

#[tokio::test]
async fn users_are_made_found_changed_and_removed() {
    let (service, id) = shop().await;
    let taken = json!({"username": " ANN ", "password": PASSWORD});
    service.admin(Method::POST, "/users", &taken).await.expect(409);
    for bad in [
        json!({"username": "", "password": PASSWORD}),
        json!({"username": "bob", "password": "short"}),
        json!({"username": "bob", "claims": {"sub": "root"}}),
        json!({"username": "bob", "scopes": ["two words"]}),
        json!({"username": "bob", "name": "x".repeat(5000)}),
    ] {
        service.admin(Method::POST, "/users", &bad).await.expect(422);
    }
    service.admin(Method::POST, "/users", &json!({"username": "bob", "pasword": "typo"})).await.expect(400);
    let found = service.admin(Method::GET, "/users?username=Ann", &json!({})).await.expect(200).json();
    assert_eq!(
        (found["items"][0]["id"].as_str(), found["items"][0]["has_password"].as_bool()),
        (Some(id.as_str()), Some(true))
    );
    assert!(!found.to_string().contains("argon2"));
    let path = format!("/users/{id}");
    let changed = service.admin(Method::PATCH, &path, &json!({"email": "new@example.com"})).await.expect(200).json();
    assert_eq!((changed["email_verified"].as_bool(), changed["name"].as_str()), (Some(false), Some("Ann Example")));
    service.admin(Method::DELETE, &path, &json!({})).await.expect(200);
    service.admin(Method::GET, &path, &json!({})).await.expect(404);
    service.create_user("ann").await;
}

#[tokio::test]
async fn a_changed_profile_shows_at_once_and_keeps_people_signed_in() {
    let (service, id) = shop().await;
    let token = service.sign_in_at(&mut Browser::default(), "shop/web", SHOP, "ann").await;
    service.admin(Method::PATCH, &format!("/users/{id}"), &json!({"roles": ["admin"]})).await.expect(200);
    assert_eq!(service.introspect(&token, "shop/web").await["roles"], json!(["admin"]));
}

#[tokio::test]
async fn disabling_deleting_and_a_new_password_end_what_a_user_has() {
    for what in ["disable", "delete", "password"] {
        let (service, id) = shop().await;
        let mut browser = Browser::default();
        let token = service.sign_in_at(&mut browser, "shop/web", SHOP, "ann").await;
        let key = json!({"user": id, "audiences": ["shop/web"]});
        let key = service.admin(Method::POST, "/api-keys", &key).await.expect(201).json()["api_key"]
            .as_str()
            .unwrap()
            .to_owned();
        match what {
            "disable" => drop(
                service.admin(Method::PATCH, &format!("/users/{id}"), &json!({"disabled": true})).await.expect(200),
            ),
            "delete" => drop(service.admin(Method::DELETE, &format!("/users/{id}"), &json!({})).await.expect(200)),
            _ => {
                let body = json!({"password": "another good password"});
                service.admin(Method::PUT, &format!("/users/{id}/password"), &body).await.expect(204);
            }
        }
        assert_eq!(service.introspect(&token, "shop/web").await, json!({"active": false}), "{what}");
        assert_eq!(service.introspect(&key, "shop/web").await["active"], what == "password", "{what}");
        let to_page = browser.get(&service, &service.push("shop/web", SHOP, &[]).await).await.expect(303);
        assert!(to_page.location().starts_with("/sign-in"), "{what}");
        let refused = browser.sign_in(&service, &to_page, "ann", PASSWORD).await;
        assert_eq!(refused.status, 422, "{what}");
        assert!(refused.body.contains("The user name or password is not right."), "{what}");
    }
}

#[tokio::test]
async fn sessions_are_listed_with_their_apps_and_ended_one_or_all() {
    let (service, id) = shop().await;
    let first = service.sign_in_at(&mut Browser::default(), "shop/web", SHOP, "ann").await;
    let second = service.sign_in_at(&mut Browser::default(), "shop/web", SHOP, "ann").await;
    let path = format!("/users/{id}/sessions");
    let list = service.admin(Method::GET, &path, &json!({})).await.expect(200).json();
    assert_eq!((list["items"].as_array().unwrap().len(), &list["items"][0]["clients"]), (2, &json!(["shop/web"])));
    let receipt =
        service.admin(Method::DELETE, &format!("/sessions/{}", &first[3..25]), &json!({})).await.expect(200).json();
    assert!(receipt["event_id"].is_string());
    assert_eq!(service.introspect(&first, "shop/web").await["active"], false);
    assert_eq!(service.introspect(&second, "shop/web").await["active"], true);
    service.admin(Method::DELETE, &path, &json!({})).await.expect(200);
    assert_eq!(service.introspect(&second, "shop/web").await["active"], false);
    let list = service.admin(Method::GET, &path, &json!({})).await.expect(200).json();
    assert_eq!(list["items"], json!([]));
}

#[tokio::test]
async fn clients_are_made_replaced_and_their_secrets_shown_once() {
    let (service, _) = shop().await;
    let body = json!({"client_id": "app", "redirect_uris": ["https://app.example.com/cb"], "grant_types": ["authorization_code"]});
    let made = service.admin(Method::POST, "/clients", &body).await.expect(201).json();
    let secret = made["client_secret"].as_str().unwrap();
    service.admin(Method::POST, "/clients", &body).await.expect(409);
    let shown = service.admin(Method::GET, "/clients/app", &json!({})).await.expect(200);
    assert!(!shown.body.contains(secret) && !shown.body.contains("secret"));
    let replacement = json!({"name": "The App", "redirect_uris": ["https://app.example.com/new"], "grant_types": ["authorization_code"]});
    let replaced = service.admin(Method::PUT, "/clients/app", &replacement).await.expect(200).json();
    assert_eq!(
        (replaced["name"].as_str(), &replaced["redirect_uris"]),
        (Some("The App"), &json!(["https://app.example.com/new"]))
    );
    let renewed = service.admin(Method::POST, "/clients/app/secret", &json!({})).await.expect(200).json();
    assert_ne!(renewed["client_secret"].as_str().unwrap(), secret);
    for bad in [
        json!({"client_id": "shop/web"}),
        json!({"client_id": "x", "redirect_uris": ["javascript:alert(1)"]}),
        json!({"client_id": "x", "redirect_uris": ["http://app.example.com/cb"]}),
        json!({"client_id": "x", "public": true, "grant_types": ["client_credentials"]}),
        json!({"client_id": "x", "grant_types": ["authorization_code"]}),
    ] {
        service.admin(Method::POST, "/clients", &bad).await.expect(422);
    }
    service.admin(Method::POST, "/clients", &json!({"client_id": "x", "grant_types": ["password"]})).await.expect(400);
    service.admin(Method::DELETE, "/clients/app", &json!({})).await.expect(200);
    service.admin(Method::GET, "/clients/app", &json!({})).await.expect(404);
}

#[tokio::test]
async fn an_emergency_rotation_refuses_everything_signed_before() {
    let (service, _) = shop().await;
    let before = service.send(Method::GET, &service.public("/oauth2/jwks.json"), &[], "").await.body;
    service.admin(Method::POST, "/keys/rotate", &json!({"emergency": true})).await.expect(204);
    let after = service.send(Method::GET, &service.public("/oauth2/jwks.json"), &[], "").await.expect(200).json();
    let old: serde_json::Value = serde_json::from_str(&before).unwrap();
    assert_eq!(after["keys"].as_array().unwrap().len(), 1);
    assert_ne!(after["keys"][0]["kid"], old["keys"][0]["kid"]);
}

#[tokio::test]
async fn lists_come_in_pages() {
    let (service, _) = shop().await;
    for name in ["bob", "cat"] {
        service.create_user(name).await;
    }
    let first = service.admin(Method::GET, "/users?limit=2", &json!({})).await.expect(200).json();
    assert_eq!((first["items"].as_array().unwrap().len(), first["next_offset"].as_u64()), (2, Some(2)));
    let last = service.admin(Method::GET, "/users?limit=2&offset=2", &json!({})).await.expect(200).json();
    assert_eq!((last["items"].as_array().unwrap().len(), last.get("next_offset")), (1, None));
}
