//! What each listener answers, and what the management plane turns away.

use crate::server::{CUSTOMER, EVENT, Server, send};
use reqwest::Method;
use serde_json::json;

const MANAGEMENT_ROUTES: [(Method, &str); 15] = [
    (Method::POST, "/overrides/evt-1/decide"),
    (Method::POST, "/overrides/verify"),
    (Method::POST, "/tokens/override"),
    (Method::GET, "/tokens/f4a5b6c7-d8e9-0123-f012-456789012cde"),
    (Method::DELETE, "/tokens/f4a5b6c7-d8e9-0123-f012-456789012cde"),
    (Method::POST, "/keys/signing"),
    (Method::POST, "/keys/550e8400-e29b-41d4-a716-446655440000.1/rotate"),
    (Method::GET, "/keys/public/550e8400-e29b-41d4-a716-446655440000"),
    (Method::POST, "/api-keys"),
    (Method::GET, "/api-keys"),
    (Method::DELETE, "/api-keys/key_00000000000000000000000000000000"),
    (Method::POST, "/api-keys/key_00000000000000000000000000000000/rotate"),
    (Method::GET, "/organizations/1/actions-policy"),
    (Method::PUT, "/organizations/1/actions-policy"),
    (Method::PUT, "/secrets/default"),
];

/// The routers' own sources: no route of theirs may be missing above, or be on the other plane.
const PUBLIC_DOORS: [&str; 3] = [
    include_str!("../../functions/actions/src/lib.rs"),
    include_str!("../../functions/approvals/src/lib.rs"),
    include_str!("../../functions/cases/src/lib.rs"),
];
const MANAGEMENT_DOORS: [&str; 2] =
    [include_str!("../../functions/management/src/lib.rs"), include_str!("../../functions/overrides/src/lib.rs")];

/// On both planes, but for what the agents' SDK calls: that is public.
const WEBHOOKS: &str = include_str!("../../functions/webhooks/src/lib.rs");
const OF_THE_SDK: &str = "/api/";

fn routes(sources: &[&'static str]) -> Vec<&'static str> {
    sources.iter().flat_map(|source| source.split("route(").skip(1)).filter_map(|rest| rest.split('"').nth(1)).collect()
}

#[test]
fn every_route_of_the_management_plane_is_in_the_table() {
    let segments = |path: &str| path.split('/').count();
    let fits = |route: &str, path: &str| {
        let parts = route.split('/').zip(path.split('/'));
        segments(route) == segments(path) && parts.into_iter().all(|(a, b)| a == b || a.starts_with('{'))
    };
    for route in routes(&MANAGEMENT_DOORS) {
        assert!(MANAGEMENT_ROUTES.iter().any(|(_, path)| fits(route, path)), "{route}");
    }
}

#[tokio::test]
async fn no_route_of_a_public_door_is_on_the_management_plane() {
    let server = Server::start().await;
    let mut routes = routes(&PUBLIC_DOORS);
    routes.extend(self::routes(&[WEBHOOKS]).into_iter().filter(|route| route.starts_with(OF_THE_SDK)));
    assert!(routes.len() > 29, "{routes:?}");
    for route in routes {
        let path = route.replace(['{', '}'], "");
        for method in [Method::GET, Method::POST] {
            let management = send(server.request(method.clone(), &path)).await;
            assert_eq!(management.refusal(), (404, "not_found".to_owned()), "{method} {path}");
            let public = send(server.public(method, &path)).await;
            assert!(
                public.status == 401 || public.status == 405 || path == "/api/deployment-info",
                "{path}: {public:?}"
            );
        }
    }
}

#[tokio::test]
async fn webhooks_are_on_both_planes_and_each_asks_in_its_own_way_whose() {
    let server = Server::start().await;
    let mut both: Vec<_> = routes(&[WEBHOOKS]);
    both.retain(|route| !route.starts_with(OF_THE_SDK));
    assert_eq!(both.len(), 8, "{both:?}");
    for route in both {
        let path = route.replace(['{', '}'], "");
        for method in [Method::GET, Method::POST, Method::PATCH, Method::DELETE] {
            let ask = |request: reqwest::RequestBuilder| send(request.json(&json!({})));
            let public = ask(server.public(method.clone(), &path)).await;
            let management = ask(server.request(method.clone(), &path)).await;
            if public.status == 405 {
                assert_eq!(management.status, 405, "{method} {path}");
            } else {
                assert_eq!(public.refusal(), (401, "unauthorized".to_owned()), "{method} {path}");
                assert_eq!(management.refusal(), (400, "invalid_request".to_owned()), "{method} {path}");
            }
        }
    }
}

#[tokio::test]
async fn no_route_of_the_management_plane_is_public() {
    let server = Server::start().await;
    for (method, path) in MANAGEMENT_ROUTES {
        let public = send(server.public(method.clone(), path)).await;
        assert_eq!(public.refusal(), (404, "not_found".to_owned()), "{method} {path}");
        let management = send(server.request(method.clone(), path)).await;
        assert_ne!(management.refusal().1, "not_found", "{method} {path}");
    }
}

#[tokio::test]
async fn both_listeners_say_whether_they_are_well() {
    let server = Server::start().await;
    for listener in [&server.public_url, &server.management] {
        let health = send(server.client.get(format!("{listener}/health"))).await;
        assert_eq!((health.status, health.json()), (200, json!({ "status": "healthy", "service": "countersign" })));
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_are_told_apart() {
    let server = Server::start().await;
    for path in
        ["/", "/nothing", "/overrides", "/overrides/evt-1", "/tokens", "/tokens/a/b", "/health/", "//health", "/%ff"]
    {
        for listener in [&server.public_url, &server.management] {
            let answer = send(server.client.get(format!("{listener}{path}"))).await;
            assert_eq!(answer.refusal(), (404, "not_found".to_owned()), "{path}");
            assert_eq!(answer.header("content-type"), Some("application/json"));
        }
    }
    for (method, path, allow) in [
        (Method::GET, "/overrides/evt-1/decide", "POST"),
        (Method::PUT, "/tokens/override", "POST"),
        (Method::POST, "/tokens/f4a5b6c7-d8e9-0123-f012-456789012cde", "GET,HEAD,DELETE"),
        (Method::DELETE, "/keys/public/x", "GET,HEAD"),
        (Method::POST, "/health", "GET,HEAD"),
        (Method::OPTIONS, "/keys/signing", "POST"),
    ] {
        let answer = send(server.request(method.clone(), path)).await;
        assert_eq!(answer.refusal(), (405, "method_not_allowed".to_owned()), "{method} {path}");
        assert_eq!(answer.header("allow"), Some(allow), "{method} {path}");
    }
}

#[tokio::test]
async fn every_answer_has_a_request_id() {
    let server = Server::start().await;
    let with = async |id: &[u8]| {
        let id = reqwest::header::HeaderValue::from_bytes(id).unwrap();
        send(server.request(Method::GET, "/nothing").header("X-Request-Id", id)).await
    };
    for own in ["a", "A.b_c-9", &"x".repeat(128)] {
        assert_eq!(with(own.as_bytes()).await.header("x-request-id"), Some(own));
    }
    for not_one in [b"".as_slice(), &[b'x'; 129], b"a b", b"a/b", "ä".as_bytes(), b"a\tb"] {
        let answer = with(not_one).await;
        let fresh = answer.header("x-request-id").unwrap();
        assert!(uuid::Uuid::parse_str(fresh).is_ok(), "{fresh}");
    }
    let mut fresh: Vec<_> = Vec::new();
    for _ in 0..3 {
        fresh.push(server.get("/health").await.header("x-request-id").unwrap().to_owned());
    }
    fresh.dedup();
    assert_eq!(fresh.len(), 3);
}

#[tokio::test]
async fn web_pages_and_webhooks_do_not_reach_the_management_plane() {
    let server = Server::start().await;
    let port = server.management.rsplit(':').next().unwrap();
    let jti = server.mint(json!({})).await;
    let body = json!({ "override_jti": jti, "customer_id": CUSTOMER, "decision": "approve" });
    for (name, value) in [
        ("Origin", "http://localhost:3000"),
        ("Origin", &server.management),
        ("Sec-Fetch-Site", "same-site"),
        ("X-Approval-Event-Id", "e"),
        ("webhook-id", "w"),
        ("Host", "example.com"),
        ("Host", &format!("rebound.example.com:{port}")),
        ("Host", "127.0.0.1:1"),
        ("Host", "127.0.0.1"),
    ] {
        let request = server.request(Method::POST, &format!("/overrides/{EVENT}/decide")).header(name, value);
        let refused = send(request.json(&body)).await;
        assert_eq!(refused.refusal(), (403, "forbidden".to_owned()), "{name}: {value}");
        let health = send(server.request(Method::GET, "/health").header(name, value)).await;
        assert_eq!(health.status, 403, "{name}: {value}");
    }
    for host in [format!("localhost:{port}"), format!("127.0.0.1:{port}"), format!("[::1]:{port}")] {
        let health = send(server.request(Method::GET, "/health").header("Host", host)).await;
        assert_eq!(health.status, 200);
    }
    assert_eq!(server.show(&jti).await["status"], "active");
    let public =
        send(server.client.get(format!("{}/health", server.public_url)).header("Origin", "http://a.example")).await;
    assert_eq!(public.status, 200);
}

#[tokio::test]
async fn a_caller_over_its_rate_is_told_when_to_come_again() {
    let server = Server::with(countersign_testing::fault::Faults::none(), 0, &[("COUNTERSIGN_RATE", "1")]).await;
    let path = format!("/keys/public/{CUSTOMER}");
    let answers = futures_util::future::join_all((0..20).map(|_| server.get(&path))).await;
    let limited: Vec<_> = answers.iter().filter(|answer| answer.status == 429).collect();
    assert!(!limited.is_empty());
    assert_eq!(limited[0].refusal().1, "rate_limited");
    assert!(limited[0].header("retry-after").unwrap().parse::<u32>().unwrap() >= 1);
    assert_eq!(server.get("/health").await.status, 200);
}

#[tokio::test]
async fn a_table_that_does_not_answer_is_503_and_changes_nothing() {
    let server = Server::start().await;
    let jti = server.mint(json!({})).await;
    server.table.cut_off(true);
    let refused = server.decide(&jti, "approve").await;
    assert_eq!(refused.refusal(), (503, "unavailable".to_owned()));
    assert!(refused.header("retry-after").is_some());
    let health = server.get("/health").await;
    assert_eq!((health.status, health.json()), (503, json!({ "status": "unhealthy", "service": "countersign" })));
    server.table.cut_off(false);
    assert_eq!(server.decide(&jti, "approve").await.status, 200);
}

#[tokio::test]
async fn a_panic_is_a_500_with_a_request_id_and_no_story() {
    let server = Server::start().await;
    let listener = countersign_api::Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let url = format!("http://{}/panics", listener.address().unwrap());
    let panics =
        axum::Router::new().route("/panics", axum::routing::get(async || -> &'static str { panic!("secret") }));
    let router = countersign_api::router(server.app.clone(), countersign_api::Plane::Public, panics);
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    tokio::spawn(listener.serve(router, stopped));
    let answer = send(server.client.get(url)).await;
    assert_eq!(answer.refusal(), (500, "internal".to_owned()));
    assert!(answer.header("x-request-id").is_some() && !answer.text.contains("secret"), "{answer:?}");
}
