//! Issuers whose keys change, that are slow, and that are away.

use super::{KIT, Trusting, refusal};
use crate::server::{Answer, Server};
use countersign_testing::fault::Faults;
use countersign_testing::issuer::{JwksAddress, Signer};
use countersign_testing::tokens::{AUDIENCE, ISSUER, Kit, TENANT};
use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::json;
use std::time::Duration;

fn wrong(answer: &Answer) {
    assert_eq!(refusal(answer), (401, "INVALID_TOKEN".to_owned()), "{answer:?}");
}

fn unavailable(answer: &Answer) {
    assert_eq!(refusal(answer), (503, "UNAVAILABLE".to_owned()), "{answer:?}");
    assert_eq!(answer.header("retry-after"), Some("1"));
}

#[tokio::test]
async fn keys_are_fetched_once_for_many_tokens() {
    let trusting = Trusting::start().await;
    assert_eq!(trusting.issuer.fetches(), 0, "nobody has come yet");
    for _ in 0..5 {
        for (signer, kid) in [(&KIT.rsa, "rsa"), (&KIT.p256, "ec"), (&KIT.ed25519, "ed")] {
            assert_eq!(trusting.signed_by(signer, kid).await.status, 200, "{kid}");
        }
    }
    assert_eq!(trusting.issuer.fetches(), 1);
}

#[tokio::test]
async fn fifty_simultaneous_first_callers_make_one_fetch() {
    let trusting = Trusting::start().await;
    trusting.issuer.hold();
    let callers = join_all((0..50).map(|_| trusting.signed_by(&KIT.p256, "ec")));
    let (answers, ()) = tokio::join!(callers, async {
        trusting.issuer.until_fetched(1).await;
        trusting.issuer.release();
    });
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(trusting.issuer.fetches(), 1);
}

#[tokio::test]
async fn an_unknown_key_id_makes_one_fetch_in_thirty_seconds() {
    let trusting = Trusting::start().await;
    assert_eq!(trusting.signed_by(&KIT.p256, "ec").await.status, 200);
    let unknown = async || {
        let kids: Vec<_> = (0..50).map(|n| format!("unknown-{n}")).collect();
        join_all(kids.iter().map(|kid| trusting.signed_by(&KIT.stranger, kid))).await.iter().for_each(wrong);
    };
    unknown().await;
    trusting.server.clock.advance(Duration::from_millis(29_999));
    unknown().await;
    assert_eq!(trusting.issuer.fetches(), 1);
    trusting.server.clock.advance(Duration::from_millis(1));
    unknown().await;
    unknown().await;
    assert_eq!(trusting.issuer.fetches(), 2);
    // The pause is as long after an attempt that failed.
    trusting.issuer.answer(StatusCode::INTERNAL_SERVER_ERROR, "");
    trusting.server.clock.advance(Duration::from_secs(30));
    unknown().await;
    trusting.server.clock.advance(Duration::from_millis(29_999));
    unknown().await;
    assert_eq!(trusting.issuer.fetches(), 3);
    assert_eq!(trusting.signed_by(&KIT.p256, "ec").await.status, 200);
}

#[tokio::test]
async fn who_names_a_known_key_never_waits_for_a_slow_issuer() {
    let trusting = Trusting::start().await;
    assert_eq!(trusting.signed_by(&KIT.p256, "ec").await.status, 200);
    trusting.server.clock.advance(Duration::from_secs(30));
    trusting.issuer.hold();
    let waiting = trusting.signed_by(&KIT.stranger, "unknown");
    let meanwhile = async {
        trusting.issuer.until_fetched(2).await;
        assert_eq!(trusting.signed_by(&KIT.p256, "ec").await.status, 200, "while somebody else waits");
        trusting.issuer.release();
    };
    let (waited, ()) = tokio::join!(waiting, meanwhile);
    wrong(&waited);

    // Keys that are no longer fresh are fetched anew alongside.
    trusting.server.clock.advance(Duration::from_secs(10 * 60));
    trusting.issuer.hold();
    assert_eq!(trusting.signed_by(&KIT.p256, "ec").await.status, 200);
    trusting.issuer.until_fetched(3).await;
    assert_eq!(trusting.signed_by(&KIT.p256, "ec").await.status, 200);
    trusting.issuer.release();
}

#[tokio::test]
async fn while_the_issuer_is_away_its_keys_are_used_for_an_hour_and_then_it_is_503() {
    let trusting = Trusting::start().await;
    assert_eq!(trusting.signed_by(&KIT.p256, "ec").await.status, 200);
    trusting.issuer.answer(StatusCode::BAD_GATEWAY, "<html>");
    for _ in 0..59 {
        trusting.server.clock.advance(Duration::from_secs(60));
        assert_eq!(trusting.signed_by(&KIT.p256, "ec").await.status, 200);
    }
    trusting.server.clock.advance(Duration::from_millis(59_999));
    assert_eq!(trusting.signed_by(&KIT.p256, "ec").await.status, 200);
    wrong(&trusting.signed_by(&KIT.stranger, "ec").await);
    trusting.server.clock.advance(Duration::from_millis(1));
    for (signer, kid) in [(&KIT.p256, "ec"), (&KIT.stranger, "ec"), (&KIT.stranger, "unknown")] {
        unavailable(&trusting.signed_by(signer, kid).await);
    }
    // What is wrong in itself needs no key to be found so, and other issuers are not away.
    wrong(&trusting.server.with_token("a.b.c").await);
    wrong(&trusting.signed_by(&KIT.secret, "ec").await);
    let narrow = Kit::claims(trusting.now()).with("iss", countersign_testing::tokens::NARROW).text();
    let narrow = KIT.narrow_rsa.token(r#"{"alg":"RS256","kid":"rsa"}"#, narrow);
    assert_eq!(trusting.server.with_token(&narrow).await.status, 200);

    trusting.issuer.publish(&KIT.jwks());
    trusting.server.clock.advance(Duration::from_secs(1));
    assert_eq!(trusting.signed_by(&KIT.p256, "ec").await.status, 200, "it is back");
}

#[tokio::test]
async fn without_any_keys_an_issuer_that_is_away_is_503() {
    let gone = JwksAddress::start(&[]).await.unwrap();
    let (url, narrow) = (gone.url(), "http://127.0.0.1:9/keys");
    drop(gone);
    let issuers = Kit::configuration(&url, narrow);
    let server = Server::with(Faults::none(), 0, &[("COUNTERSIGN_ISSUERS", &issuers)]).await;
    let now = server.clock.now().as_second();
    let token = KIT.p256.token(r#"{"alg":"ES256","kid":"ec"}"#, Kit::claims(now).text());
    unavailable(&server.with_token(&token).await);
    unavailable(&server.with_token(&token).await);
    let key = server.key(TENANT, &["actions:read"]).await;
    assert_eq!(server.with_key(&key).await.status, 200, "API keys do not need it");
}

#[tokio::test]
async fn a_new_key_is_known_after_thirty_seconds_and_an_old_one_ends_with_it() {
    let trusting = Trusting::start().await;
    let new = Signer::p256();
    assert_eq!(trusting.signed_by(&KIT.p256, "ec").await.status, 200);
    trusting.issuer.publish(&[KIT.p256.jwk("ec"), new.jwk("new")]);
    trusting.server.clock.advance(Duration::from_secs(30));
    assert_eq!(trusting.signed_by(&new, "new").await.status, 200);
    assert_eq!(trusting.signed_by(&KIT.p256, "ec").await.status, 200);
    wrong(&trusting.signed_by(&KIT.rsa, "rsa").await);

    trusting.issuer.publish(&[new.jwk("new")]);
    trusting.server.clock.advance(Duration::from_secs(10 * 60));
    // This call makes the fetch, alongside; how soon it is done is the machine's business.
    assert_eq!(trusting.signed_by(&new, "new").await.status, 200);
    trusting.issuer.until_fetched(3).await;
    crate::identity::eventually(async || trusting.signed_by(&KIT.p256, "ec").await.status == 401).await;
    assert_eq!(trusting.signed_by(&new, "new").await.status, 200);
    // A key id that comes back with another key means that key.
    let again = Signer::p256();
    trusting.issuer.publish(&[new.jwk("new"), again.jwk("ec")]);
    trusting.server.clock.advance(Duration::from_secs(30));
    assert_eq!(trusting.signed_by(&again, "ec").await.status, 200);
    wrong(&trusting.signed_by(&KIT.p256, "ec").await);
}

#[tokio::test]
async fn what_is_no_jwk_set_counts_as_away_and_takes_nothing_away() {
    let elsewhere = JwksAddress::start(&KIT.jwks()).await.unwrap();
    let set = json!({ "keys": KIT.jwks() });
    let padded = |length: usize| {
        let mut text = json!({ "keys": KIT.jwks(), "pad": "" }).to_string();
        let pad = "x".repeat(length - text.len());
        text = text.replace(r#""pad":"""#, &format!(r#""pad":"{pad}""#));
        assert_eq!(text.len(), length);
        text
    };
    let answers = [
        (StatusCode::OK, padded(256 * 1024 + 1)),
        (StatusCode::OK, "<html>".to_owned()),
        (StatusCode::OK, String::new()),
        (StatusCode::OK, "null".to_owned()),
        (StatusCode::OK, "{}".to_owned()),
        (StatusCode::OK, json!({ "keys": {} }).to_string()),
        (StatusCode::OK, json!(KIT.jwks()).to_string()),
        (StatusCode::OK, format!("{set} trailing")),
        (StatusCode::OK, format!("{{\"keys\":[],{}", &set.to_string()[1..])),
        (StatusCode::CREATED, set.to_string()),
        (StatusCode::NOT_FOUND, set.to_string()),
        (StatusCode::INTERNAL_SERVER_ERROR, set.to_string()),
    ];
    for (status, body) in answers {
        let trusting = Trusting::start().await;
        let shown: String = body.chars().take(40).collect();
        trusting.issuer.answer(status, body.clone());
        unavailable(&trusting.signed_by(&KIT.p256, "ec").await);
        trusting.issuer.answer(StatusCode::OK, padded(256 * 1024));
        trusting.server.clock.advance(Duration::from_secs(1));
        assert_eq!(trusting.signed_by(&KIT.p256, "ec").await.status, 200, "256 KiB, after {status} {shown}");
        trusting.issuer.answer(status, body);
        trusting.server.clock.advance(Duration::from_secs(30));
        wrong(&trusting.signed_by(&KIT.stranger, "unknown").await);
        assert_eq!(trusting.signed_by(&KIT.p256, "ec").await.status, 200, "{status} {shown} took the keys away");
    }
    for status in [301, 302, 303, 307, 308] {
        let trusting = Trusting::start().await;
        trusting.issuer.redirect(StatusCode::from_u16(status).unwrap(), &elsewhere.url());
        unavailable(&trusting.signed_by(&KIT.p256, "ec").await);
        assert_eq!(trusting.issuer.fetches(), 1);
    }
    assert_eq!(elsewhere.fetches(), 0, "no redirect is followed");
}

#[tokio::test]
async fn a_shared_secret_in_a_jwk_set_is_no_key() {
    let secret = Signer::Secret(vec![7; 32]);
    let issuer = JwksAddress::start(&[secret.jwk("oct"), KIT.p256.jwk("ec")]).await.unwrap();
    let issuers = json!([{
        "issuer": ISSUER, "audience": AUDIENCE, "jwks_url": issuer.url(), "algorithms": ["ES256"], "tenants": "*",
    }]);
    let server = Server::with(Faults::none(), 0, &[("COUNTERSIGN_ISSUERS", &issuers.to_string())]).await;
    let claims = Kit::claims(server.clock.now().as_second()).text();
    wrong(&server.with_token(&secret.token(r#"{"alg":"HS256","kid":"oct"}"#, &claims)).await);
    wrong(&server.with_token(&secret.token(r#"{"alg":"ES256","kid":"oct"}"#, &claims)).await);
    assert_eq!(server.with_token(&KIT.p256.token(r#"{"alg":"ES256","kid":"ec"}"#, &claims)).await.status, 200);
}
