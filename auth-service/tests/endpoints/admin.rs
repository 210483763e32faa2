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

#[tokio::test]
async fn the_same_again_changes_nothing() {
    let (service, id) = shop().await;
    let path = format!("/users/{id}");
    let wanted =
        json!({"name": "Ann Other", "email": "ann@example.com", "email_verified": true, "groups": ["staff", "night"]});
    let first = service.admin(Method::PUT, &path, &wanted).await.expect(200).json();
    assert_eq!((&first["roles"], &first["name"]), (&json!([]), &json!("Ann Other")), "what is absent is taken away");
    // A sign-in under way would fail if the account had changed meanwhile.
    let mut browser = Browser::default();
    let to_page = browser.get(&service, &service.push("shop/web", SHOP, &[]).await).await.expect(303);
    let again = service.admin(Method::PUT, &path, &wanted).await.expect(200).json();
    assert_eq!(first, again);
    browser.sign_in(&service, &to_page, "ann", PASSWORD).await.expect(303);
    let trail = service.admin(Method::GET, "/audit", &json!({})).await.expect(200).body;
    assert_eq!(trail.matches("user.updated").count(), 1, "{trail}");
}

#[tokio::test]
async fn a_client_can_be_put_back_as_it_was_shown() {
    let (service, _) = shop().await;
    let body = json!({"client_id": "app", "redirect_uris": ["https://app.example.com/cb"], "grant_types": ["authorization_code"]});
    service.admin(Method::POST, "/clients", &body).await.expect(201);
    let shown = service.admin(Method::GET, "/clients/app", &json!({})).await.expect(200).json();
    assert_eq!(service.admin(Method::PUT, "/clients/app", &shown).await.expect(200).json(), shown);
    for change in [json!({"client_id": "other"}), json!({"public": true})] {
        service.admin(Method::PUT, "/clients/app", &change).await.expect(409);
    }
    let made_up = service.admin(Method::POST, "/clients", &json!({"public": true})).await.expect(201).json();
    assert!(made_up["client_id"].as_str().unwrap().starts_with("client-") && made_up.get("client_secret").is_none());
}

#[tokio::test]
async fn groups_are_there_while_somebody_is_in_them() {
    let (service, ann) = shop().await;
    let bob = service.create_user("bob").await;
    let names = async || {
        let list = service.admin(Method::GET, "/groups", &json!({})).await.expect(200).json();
        list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|group| group["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let members = async |group: &str| {
        let list = service.admin(Method::GET, &format!("/groups/{group}/members"), &json!({})).await.expect(200).json();
        let mut ids: Vec<String> =
            list["items"].as_array().unwrap().iter().map(|user| user["id"].as_str().unwrap().to_owned()).collect();
        ids.sort();
        ids
    };
    assert_eq!(names().await, ["staff"]);
    for _ in 0..2 {
        service.admin(Method::PUT, &format!("/groups/night%20shift/members/{ann}"), &json!({})).await.expect(204);
    }
    assert_eq!((names().await.len(), members("night%20shift").await), (2, vec![ann.clone()]));
    let shown = service.admin(Method::GET, &format!("/users/{ann}"), &json!({})).await.expect(200).json();
    assert_eq!(shown["groups"], json!(["staff", "night shift"]));
    for _ in 0..2 {
        service.admin(Method::DELETE, &format!("/groups/night%20shift/members/{ann}"), &json!({})).await.expect(204);
    }
    assert_eq!(names().await, ["staff"]);
    service.admin(Method::PATCH, &format!("/users/{bob}"), &json!({"groups": ["staff", "leads"]})).await.expect(200);
    let mut both = vec![ann.clone(), bob.clone()];
    both.sort();
    assert_eq!((members("staff").await, members("leads").await), (both, vec![bob.clone()]));
    service.admin(Method::DELETE, &format!("/users/{bob}"), &json!({})).await.expect(200);
    assert_eq!((names().await, members("staff").await), (vec!["staff".to_owned()], vec![ann]));
    service.admin(Method::PUT, "/groups/staff/members/nobody", &json!({})).await.expect(404);
}

#[tokio::test]
async fn a_session_shows_what_apps_keep_in_it() {
    let (service, _) = shop().await;
    let token = service.sign_in_at(&mut Browser::default(), "shop/web", SHOP, "ann").await;
    let path = format!("/sessions/{}/data", &token[3..25]);
    let empty = service.admin(Method::GET, &path, &json!({})).await.expect(200).json();
    assert_eq!(empty, json!({"shop/web": {"version": 0, "data": {}}}));
    let change = json!({"token": token, "policy": "shop/web", "version": 0, "patch": {"cart": ["tea"]}});
    service.internal_json(Method::POST, "/internal/v1/session", &service.workload("shop"), &change).await.expect(200);
    let written = service.admin(Method::GET, &path, &json!({})).await.expect(200).json();
    assert_eq!(written, json!({"shop/web": {"version": 1, "data": {"cart": ["tea"]}}}));
}

#[tokio::test]
async fn grants_are_listed_by_user_and_by_client_and_ended() {
    let bench = crate::oauth::bench().await;
    let code = bench.code(&mut Browser::default(), &[]).await;
    let token = bench.redeem(&code).await.expect(200).json()["access_token"].as_str().unwrap().to_owned();
    let service = &bench.service;
    let of_client = service.admin(Method::GET, "/clients/app/grants", &json!({})).await.expect(200).json();
    let grant = &of_client["items"][0];
    assert_eq!((&grant["client_id"], &grant["username"]), (&json!("app"), &json!("ann")));
    assert_eq!((&grant["scopes"], &grant["audiences"]), (&json!(["openid", "email", "orders"]), &json!(["shop/web"])));
    let of_user = format!("/users/{}/grants", grant["sub"].as_str().unwrap());
    assert_eq!(service.admin(Method::GET, &of_user, &json!({})).await.expect(200).json(), of_client);
    let one = format!("/grants/{}", grant["id"].as_str().unwrap());
    assert_eq!(&service.admin(Method::GET, &one, &json!({})).await.expect(200).json(), grant);
    for _ in 0..2 {
        service.admin(Method::DELETE, &one, &json!({})).await.expect(200);
    }
    service.admin(Method::GET, &one, &json!({})).await.expect(404);
    assert_eq!(service.admin(Method::GET, &of_user, &json!({})).await.expect(200).json()["items"], json!([]));
    assert_eq!(service.introspect(&token, "shop/web").await["active"], false);
}

#[tokio::test]
async fn the_audit_trail_says_who_did_what_why_and_in_which_request() {
    let (service, id) = shop().await;
    let mut browser = Browser::default();
    let to_page = browser.get(&service, &service.push("shop/web", SHOP, &[]).await).await.expect(303);
    let refused = browser.sign_in(&service, &to_page, "ann", "wrong password").await.expect(422);
    let decision = refused.header("cloakroom-decision").to_owned();
    let mut line = json!(null);
    for _ in 0..200 {
        let trail = service.admin(Method::GET, "/audit", &json!({})).await.expect(200).json();
        let items = trail["items"].as_array().unwrap();
        if let Some(found) = items.iter().find(|line| line["event"] == "sign-in.failed") {
            line = found.clone();
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!((&line["subject"], &line["decision"]), (&json!(id), &json!(decision)));
    assert_eq!((line["reason"].as_str(), line["actor"].as_str()), (Some("wrong name or password"), Some("127.0.0.1")));
    assert!(
        line["time"].as_u64().unwrap() / 1000 >= service.now() - 60 && !line.to_string().contains("wrong password\"")
    );
    let newest = service.admin(Method::GET, "/audit?limit=1", &json!({})).await.expect(200).json();
    let older = format!("/audit?limit=500&before={}", newest["next"].as_str().unwrap());
    let older = service.admin(Method::GET, &older, &json!({})).await.expect(200).json();
    assert!(older["items"].as_array().unwrap().iter().any(|line| line["event"] == "user.created"));
    assert!(older.get("next").is_none());
}

#[tokio::test]
async fn signing_keys_are_listed_with_where_they_are_in_their_life() {
    let (service, _) = shop().await;
    service.admin(Method::POST, "/keys/rotate", &json!({})).await.expect(204);
    let keys = service.admin(Method::GET, "/keys", &json!({})).await.expect(200).json();
    let stages: Vec<&str> =
        keys["items"].as_array().unwrap().iter().map(|key| key["stage"].as_str().unwrap()).collect();
    assert_eq!(stages, ["signing", "published"]);
    assert!(!keys.to_string().contains("sealed"));
}
