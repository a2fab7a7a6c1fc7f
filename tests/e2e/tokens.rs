//! Minting, showing and revoking tokens.

use crate::server::{CUSTOMER, EVENT, OTHER_CUSTOMER, Server};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::{Value, json};
use std::time::Duration;

#[tokio::test]
async fn a_token_is_a_jwt_that_the_published_key_verifies() {
    let server = Server::start().await;
    let body = json!({ "customer_id": CUSTOMER, "event_id": EVENT, "reason": "r", "ttl_minutes": 10 });
    let minted = server.post("/tokens/override", &body).await;
    assert_eq!(minted.status, 201);
    let minted = minted.json();
    let fields: Vec<_> = minted.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["event_id", "expires_at", "jti", "token"]);
    assert_eq!(minted["expires_at"], "2026-11-21T12:10:00Z");
    let token = minted["token"].as_str().unwrap().strip_prefix("qt_override_").unwrap();

    let keys: JwkSet = serde_json::from_value(server.get(&format!("/keys/public/{CUSTOMER}")).await.json()).unwrap();
    let header = decode_header(token).unwrap();
    assert_eq!((header.alg, header.kid.as_deref()), (Algorithm::ES256, Some(format!("{CUSTOMER}.1").as_str())));
    let key = DecodingKey::from_jwk(keys.find(header.kid.as_deref().unwrap()).unwrap()).unwrap();
    let mut validation = Validation::new(Algorithm::ES256);
    validation.validate_exp = false;
    let claims = decode::<Value>(token, &key, &validation).unwrap().claims;
    let iat = "2026-11-21T12:00:00Z".parse::<countersign_domain::Timestamp>().unwrap().as_second();
    assert_eq!(
        claims,
        json!({
            "jti": minted["jti"], "sub": CUSTOMER, "typ": "override", "iat": iat, "exp": iat + 600,
            "event_id": EVENT, "allowed_decisions": ["approve", "reject"],
        })
    );
}

#[tokio::test]
async fn a_token_lives_five_minutes_unless_it_is_said_otherwise() {
    let server = Server::start().await;
    let jti = server.mint(json!({ "ttl_minutes": null, "allowed_decisions": null })).await;
    assert_eq!(
        server.show(&jti).await,
        json!({
            "jti": jti, "customer_id": CUSTOMER, "event_id": EVENT, "allowed_decisions": ["approve", "reject"],
            "status": "active", "expires_at": "2026-11-21T12:05:00Z", "created_at": "2026-11-21T12:00:00Z",
        })
    );
}

#[tokio::test]
async fn a_token_shows_what_became_of_it() {
    let server = Server::start().await;
    let [used, revoked, expired] =
        [server.mint(json!({})).await, server.mint(json!({})).await, server.mint(json!({})).await];
    server.clock.advance(Duration::from_secs(5));
    server.decide(&used, "reject").await;
    server.delete(&format!("/tokens/{revoked}?customer_id={CUSTOMER}")).await;
    let shown = server.show(&used).await;
    assert_eq!(
        (&shown["status"], &shown["decision"], &shown["decided_at"]),
        (&json!("used"), &json!("reject"), &json!("2026-11-21T12:00:05Z"))
    );
    assert_eq!(server.show(&revoked).await["status"], "revoked");
    server.clock.advance(Duration::from_secs(300));
    assert_eq!(server.show(&expired).await["status"], "expired");
    assert_eq!(server.show(&used).await["status"], "used");
    assert!(server.show(&expired).await.get("decision").is_none());
}

#[tokio::test]
async fn every_wrong_field_of_a_mint_is_named() {
    let server = Server::start().await;
    let decisions = |n: usize| (0..n).map(|n| format!("d{n}")).collect::<Vec<_>>();
    for (field, values) in [
        ("customer_id", vec![json!(null), json!("acme"), json!(1), json!([CUSTOMER])]),
        (
            "event_id",
            vec![json!(null), json!(""), json!("a|b"), json!("a b"), json!("x".repeat(129)), json!("é"), json!(7)],
        ),
        (
            "allowed_decisions",
            vec![
                json!([]),
                json!(decisions(9)),
                json!(["a", "a"]),
                json!(["A"]),
                json!([1]),
                json!("approve"),
                json!({}),
                json!(["x".repeat(33)]),
                json!(["1a"]),
                json!(["a|b"]),
            ],
        ),
        ("reason", vec![json!(1), json!("x".repeat(2001)), json!("a\u{0}b"), json!("\u{7f}")]),
        ("ttl_minutes", vec![json!(0), json!(1441), json!(-1), json!(1.5), json!("5"), json!(1e300), json!(u64::MAX)]),
    ] {
        for value in values {
            let mut body = json!({ "customer_id": CUSTOMER, "event_id": EVENT });
            body[field] = value.clone();
            let refused = server.post("/tokens/override", &body).await;
            assert_eq!(refused.refusal(), (400, "invalid_request".to_owned()), "{field}: {value}");
            assert_eq!(refused.json()["details"][0]["field"], field, "{value}");
        }
    }
    for fields in [
        json!({ "allowed_decisions": decisions(8), "ttl_minutes": 1 }),
        json!({ "event_id": "x".repeat(128), "ttl_minutes": 1440, "reason": "ü\n\t".repeat(666) }),
        json!({ "event_id": "A.b_c:d-9", "unknown": { "is": ["ignored"] } }),
    ] {
        server.mint(fields).await;
    }
}

#[tokio::test]
async fn revoking_is_idempotent_until_the_token_is_used() {
    let server = Server::start().await;
    let [jti, used] = [server.mint(json!({})).await, server.mint(json!({})).await];
    let path = format!("/tokens/{jti}?customer_id={CUSTOMER}");
    for _ in 0..2 {
        let revoked = server.delete(&path).await;
        assert_eq!((revoked.status, revoked.text.as_str()), (204, ""));
    }
    assert_eq!(server.entries(&jti).await, ["override.created", "override.revoked"]);
    server.decide(&used, "approve").await;
    let refused = server.delete(&format!("/tokens/{used}?customer_id={CUSTOMER}")).await;
    assert_eq!(refused.refusal(), (409, "token_already_used".to_owned()));
}

#[tokio::test]
async fn another_customers_token_does_not_exist() {
    let server = Server::start().await;
    let jti = server.mint(json!({})).await;
    let absent = "f4a5b6c7-d8e9-0123-f012-456789012cde";
    for method in [reqwest::Method::GET, reqwest::Method::DELETE] {
        let ask = async |path: String| {
            let answer = crate::server::send(server.request(method.clone(), &path)).await;
            (answer.refusal(), answer.text)
        };
        let foreign = ask(format!("/tokens/{jti}?customer_id={OTHER_CUSTOMER}")).await;
        assert_eq!(foreign.0, (404, "token_not_found".to_owned()));
        assert_eq!(foreign, ask(format!("/tokens/{absent}?customer_id={OTHER_CUSTOMER}")).await);
        for malformed in [
            format!("/tokens/{jti}"),
            format!("/tokens/{jti}?customer_id="),
            format!("/tokens/{jti}?customer_id=acme"),
            format!("/tokens/{jti}?customer_id={CUSTOMER}&customer_id={CUSTOMER}"),
            format!("/tokens/nonsense?customer_id={CUSTOMER}"),
            format!("/tokens/%ff?customer_id={CUSTOMER}"),
        ] {
            assert_eq!(ask(malformed.clone()).await.0, (400, "invalid_request".to_owned()), "{malformed}");
        }
    }
    assert_eq!(server.show(&jti).await["status"], "active");
}
