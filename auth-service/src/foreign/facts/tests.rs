use serde_json::json;

use super::*;

const NOW: u64 = 1_800_000_000;

fn issuer(change: &Value) -> TokenIssuer {
    let mut config = json!({
        "id": "kc", "issuer": "https://sso.example.com", "policies": ["*/*"], "audiences": ["orders-api", "other-api"],
        "jwks": {}, "types": "jwt", "leeway_seconds": 30,
        "claims": {"roles": "/realm_access/roles", "groups": "groups"}, "acr_values": {"2": "mfa"},
    });
    config.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    serde_json::from_value(config).unwrap()
}

/// As Keycloak says it.
fn good() -> Value {
    json!({
        "iss": "https://sso.example.com", "sub": "5c1b", "aud": ["account", "orders-api"], "exp": NOW + 300, "iat": NOW - 1,
        "auth_time": NOW - 60, "azp": "web", "typ": "Bearer", "scope": "openid orders", "acr": "2", "amr": ["pwd", "otp"],
        "preferred_username": "ann", "email": "ann@example.com", "email_verified": true, "groups": ["staff"],
        "realm_access": {"roles": ["clerk", "admin"]},
    })
}

fn with(change: &Value) -> Value {
    let mut claims = good();
    claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    claims
}

fn read_as(config: &Value, claims: &Value, origin: Origin) -> Result<Identity, Refused> {
    let claims: Object = serde_json::from_str(&claims.to_string()).unwrap();
    read(&issuer(config), &claims, origin, TokenId::of_digest(&[7; 32]), "shop/web", NOW)
}

fn plain(claims: &Value) -> Result<Identity, Refused> {
    read_as(&json!({}), claims, Origin::Jwt { typed: false })
}

#[test]
fn what_an_issuer_says_becomes_an_identity_under_its_own_prefix() {
    let identity = plain(&good()).unwrap();
    assert_eq!((identity.sub.as_str(), identity.client_id.as_str()), ("kc:5c1b", "kc:web"));
    assert_eq!((identity.scope.as_str(), identity.exp, identity.not_beyond), ("openid orders", NOW + 300, NOW + 300));
    assert_eq!((identity.auth_time, identity.acr.as_deref()), (Some(NOW - 60), Some("mfa")));
    assert_eq!(identity.amr, ["pwd", "otp"]);
    assert_eq!(identity.profile.roles, ["clerk", "admin"]);
    assert_eq!(identity.profile.groups, ["staff"]);
    assert_eq!(identity.profile.username.as_deref(), Some("ann"));
    assert!(identity.profile.email_verified);
    assert!(identity.kind == Kind::FOREIGN && identity.sid.is_none() && identity.session.is_empty());
}

#[test]
fn roles_groups_and_acr_count_only_where_the_configuration_says_what_they_mean() {
    let bare = json!({"claims": {}, "acr_values": {}});
    let claims = with(&json!({"roles": ["admin"]}));
    let identity = read_as(&bare, &claims, Origin::Jwt { typed: false }).unwrap();
    assert_eq!(
        (identity.acr, identity.amr, identity.profile.roles, identity.profile.groups),
        (None, vec![], vec![], vec![])
    );
    let unknown = plain(&with(&json!({"acr": "mfa"}))).unwrap();
    assert_eq!(unknown.acr, None, "their word for it is not ours");
}

#[test]
fn what_does_not_fit_is_refused() {
    for (change, why) in [
        (json!({"iss": "https://evil.example"}), Refused::Issuer),
        (json!({"iss": "https://sso.example.com/"}), Refused::Issuer),
        (json!({"iss": ["https://sso.example.com"]}), Refused::Issuer),
        (json!({"iss": null}), Refused::Issuer),
        (json!({"aud": "account"}), Refused::Audience),
        (json!({"aud": []}), Refused::Audience),
        (json!({"aud": null}), Refused::Audience),
        (json!({"aud": "orders-api other-api"}), Refused::Audience),
        (json!({"aud": {"orders-api": true}}), Refused::Claim("aud")),
        (json!({"aud": ["orders-api", 7]}), Refused::Claim("aud")),
        (json!({"exp": NOW}), Refused::Expired),
        (json!({"exp": 0}), Refused::Expired),
        (json!({"exp": null}), Refused::Expired),
        (json!({"exp": -1}), Refused::Claim("exp")),
        (json!({"exp": "4000000000"}), Refused::Claim("exp")),
        (json!({"exp": 1e300}), Refused::Claim("exp")),
        (json!({"nbf": NOW + 31}), Refused::NotYet),
        (json!({"iat": NOW + 31}), Refused::NotYet),
        (json!({"nbf": "soon"}), Refused::Claim("nbf")),
        (json!({"cnf": {"jkt": "x"}}), Refused::Bound),
        (json!({"cnf": {"x5t#S256": "x"}}), Refused::Bound),
        (json!({"cnf": {}}), Refused::Bound),
        (json!({"sub": null, "azp": null}), Refused::Subject),
        (json!({"sub": ""}), Refused::Claim("subject")),
        (json!({"sub": 5}), Refused::Claim("subject")),
        (json!({"sub": "a\nb"}), Refused::Claim("subject")),
        (json!({"sub": "x".repeat(600)}), Refused::Claim("subject")),
        (json!({"scope": "a\"b"}), Refused::Claim("scope")),
        (json!({"groups": vec!["g"; 300]}), Refused::Claim("groups")),
        (json!({"realm_access": {"roles": [{"name": "admin"}]}}), Refused::Claim("roles")),
        (json!({"act": {}}), Refused::Claim("act")),
    ] {
        assert_eq!(plain(&with(&change)).unwrap_err(), why, "{change}");
    }
    for fine in
        [json!({"nbf": NOW + 30}), json!({"iat": NOW + 30}), json!({"exp": NOW + 1}), json!({"exp": 1_800_000_009.5})]
    {
        assert!(plain(&with(&fine)).is_ok(), "{fine}");
    }
}

#[test]
fn an_id_token_or_a_refresh_token_is_no_access_token() {
    for change in [
        json!({"typ": "ID"}),
        json!({"typ": "Refresh"}),
        json!({"typ": "Offline"}),
        json!({"typ": "DPoP"}),
        json!({"typ": 1}),
        json!({"token_use": "id"}),
        json!({"token_use": "refresh_token"}),
        json!({"at_hash": "x"}),
        json!({"c_hash": "x"}),
        json!({"events": {"http://schemas.openid.net/event/backchannel-logout": {}}}),
        json!({"typ": null, "nonce": "n"}),
        json!({"typ": null, "scope": null}),
    ] {
        assert_eq!(plain(&with(&change)).unwrap_err(), Refused::NotAnAccessToken, "{change}");
    }
    // Entra's: delegated, and for an application alone.
    for change in
        [json!({"typ": null, "scope": null, "scp": "orders"}), json!({"typ": null, "scope": null, "azpacr": "1"})]
    {
        assert!(plain(&with(&change)).is_ok(), "{change}");
    }
    // Keycloak before 25 repeats the nonce, and says what it is.
    assert!(plain(&with(&json!({"nonce": "n"}))).is_ok());
    let typed = read_as(&json!({}), &with(&json!({"typ": null, "scope": null})), Origin::Jwt { typed: true });
    assert!(typed.is_ok(), "its header says so");
}

#[test]
fn introspection_is_believed_only_about_bearer_tokens_that_are_meant_for_us() {
    let asked = |change: &Value| read_as(&json!({}), &with(change), Origin::Introspection);
    let bearer = json!({"token_type": "Bearer", "typ": null});
    for (change, why) in [
        (json!({}), Refused::NotAnAccessToken),
        (json!({"token_type": "DPoP"}), Refused::NotAnAccessToken),
        (json!({"token_type": "refresh_token"}), Refused::NotAnAccessToken),
        (json!({"token_type": "Bearer", "token_use": "refresh_token"}), Refused::NotAnAccessToken),
        (json!({"token_type": "Bearer", "iss": "https://evil.example"}), Refused::Issuer),
        (json!({"token_type": "Bearer", "aud": null}), Refused::Audience),
        (json!({"token_type": "Bearer", "cnf": {"jkt": "x"}}), Refused::Bound),
        (json!({"token_type": "Bearer", "exp": NOW - 1}), Refused::Expired),
    ] {
        assert_eq!(asked(&change).unwrap_err(), why, "{change}");
    }
    assert_eq!(asked(&bearer).unwrap().sub, "kc:5c1b");
    let short = json!({"token_type": "bearer", "iss": null, "exp": null, "iat": null});
    assert_eq!(asked(&short).unwrap().exp, NOW + NO_END, "what RFC 7662 leaves to them may be missing");
}

#[test]
fn nobody_of_theirs_can_be_somebody_of_ours() {
    for (sub, client) in [
        ("0123456789ABCDEFGHIJKL", "shop/web"),
        ("service:backup", "api-key:0123456789ABCDEFGHIJKL"),
        ("kc2:ann", "other"),
        (":", "a:b"),
    ] {
        let identity = plain(&with(&json!({"sub": sub, "azp": client}))).unwrap();
        assert_eq!((identity.sub, identity.client_id), (format!("kc:{sub}"), format!("kc:{client}")));
    }
    let nobody = plain(&with(&json!({"sub": null}))).unwrap();
    assert_eq!(nobody.sub, "kc:web", "the client itself");
    let anonymous = plain(&with(&json!({"azp": null}))).unwrap();
    assert_eq!(anonymous.client_id, "kc");
    let entra = json!({"claims": {"subject": "oid"}});
    let by_oid = |claims: &Value| read_as(&entra, claims, Origin::Jwt { typed: false });
    assert_eq!(by_oid(&with(&json!({"oid": "77"}))).unwrap().sub, "kc:77");
    assert_eq!(by_oid(&good()).unwrap_err(), Refused::Subject, "and not somebody else instead");
}

#[test]
fn whoever_acts_for_somebody_is_not_left_out() {
    let identity = plain(&with(&json!({"act": {"sub": "gateway", "act": {"sub": "batch"}}}))).unwrap();
    let act = identity.act.unwrap();
    assert_eq!((act.sub.as_str(), act.act.unwrap().sub.as_str()), ("kc:gateway", "kc:batch"));
}
