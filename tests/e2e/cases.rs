//! Cases brought in, listed and shown, and the verdicts on them: every documented answer and refusal.

use crate::server::{Answer, Server, send};
use countersign_domain::api_key::KeyId;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

pub(crate) const ABSENT: &str = "f4a5b6c7-d8e9-0123-f012-456789012cde";
pub(crate) const CASES: &str = "/api/v1/external/cases";
pub(crate) const NOT_FOUND: &str = r#"{"detail":"Case not found"}"#;

/// A tool of a tenant's security operations centre, with an API key.
#[derive(Clone)]
pub(crate) struct Tool<'a> {
    pub(crate) server: &'a Server,
    pub(crate) key: String,
}

impl<'a> Tool<'a> {
    pub(crate) async fn of(server: &'a Server, tenant: &str) -> Self {
        Self::with(server, tenant, &["cases:read", "cases:write"]).await
    }

    pub(crate) async fn with(server: &'a Server, tenant: &str, scopes: &[&str]) -> Self {
        Self { server, key: server.key(tenant, scopes).await }
    }

    pub(crate) fn key_id(&self) -> String {
        KeyId::of(&self.key).to_string()
    }

    /// A request to a path below the cases.
    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.server.public(method, &format!("{CASES}{path}")).header("X-API-Key", &self.key)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        send(self.request(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        send(self.request(Method::POST, path).json(body)).await
    }

    async fn post_once(&self, path: &str, key: &str, body: &Value) -> Answer {
        send(self.request(Method::POST, path).header("Idempotency-Key", key).json(body)).await
    }

    /// Brings a case in, with these fields on top; its id.
    pub(crate) async fn create(&self, fields: Value) -> String {
        let mut body = json!({ "title": "Impossible travel", "severity": "high" });
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let created = self.post("", &body).await;
        assert_eq!(created.status, 201, "{created:?}");
        created.json()["case_id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn verdict(&self, case_id: &str, body: &Value) -> Answer {
        self.post(&format!("/{case_id}/verdict"), body).await
    }

    pub(crate) async fn show(&self, case_id: &str) -> Value {
        let shown = self.get(&format!("/{case_id}")).await;
        assert_eq!(shown.status, 200, "{shown:?}");
        shown.json()
    }

    /// The ids of the cases in a listing, by following its cursors.
    pub(crate) async fn ids(&self, query: &str) -> Vec<String> {
        let mut ids = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.get(&format!("?{query}{cursor}")).await;
            assert_eq!(page.status, 200, "{page:?}");
            ids.extend(case_ids(&page));
            match page.json()["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return ids,
            }
        }
    }
}

/// The ids of the cases on a page.
pub(crate) fn case_ids(page: &Answer) -> Vec<String> {
    let page = page.json();
    page["cases"].as_array().unwrap().iter().map(|case| case["case_id"].as_str().unwrap().to_owned()).collect()
}

/// A sentence of refusal with its status.
pub(crate) fn refusal(answer: &Answer) -> (u16, String) {
    (answer.status, answer.json()["detail"].as_str().unwrap_or_default().to_owned())
}

/// Where a malformed request is so, and of what type each mistake is.
fn mistakes(answer: &Answer) -> Vec<(Value, String)> {
    assert_eq!(answer.status, 422, "{answer:?}");
    let details = answer.json()["detail"].as_array().unwrap().clone();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    assert!(details.iter().all(|detail| !text(&detail["msg"]).is_empty()));
    details.iter().map(|detail| (detail["loc"].clone(), text(&detail["type"]))).collect()
}

fn replayed(answer: &Answer) -> bool {
    answer.header("idempotency-replayed") == Some("true")
}

#[tokio::test]
async fn a_case_is_answered_with_its_documented_fields_in_their_order() {
    let server = Server::start().await;
    let tool = Tool::of(&server, "acme").await;
    let least = json!({ "case_id": ABSENT.to_uppercase(), "title": "t", "severity": "low" });
    let created = tool.post("", &least).await;
    let text = format!(
        r#"{{"case_id":"{ABSENT}","title":"t","severity":"low","description":null,"state":"discover","outcome":null,"#
    ) + r#""resolved":false,"event_ids":[],"metadata":null,"#
        + r#""created_at":"2026-11-21T12:00:00Z","updated_at":"2026-11-21T12:00:00Z"}"#;
    assert_eq!((created.status, &created.text), (201, &text));
    server.clock.advance(Duration::from_millis(1));
    let events = ["3c90c3cc-0d44-4b50-8888-8dd25736052a", "a2b8b2f0-7b8e-4e50-9c5e-0c2f3a1d4e5f"];
    let most = json!({
        "title": "ü".repeat(300), "severity": "critical", "description": "line\n".repeat(2000),
        "event_ids": [events[1], events[0].to_uppercase(), events[1]], "metadata": { "z": [1, 2.5, null], "a": {} },
    });
    let created = tool.post("", &most).await.json();
    let case_id = created["case_id"].as_str().unwrap();
    assert_eq!(case_id.parse::<uuid::Uuid>().unwrap().get_version_num(), 4);
    for field in ["title", "severity", "description", "metadata"] {
        assert_eq!(created[field], most[field], "{field}");
    }
    assert_eq!(created["event_ids"], json!([events[1], events[0]]), "repeats are dropped");
    let mut shown = tool.show(case_id).await;
    let shown = shown.as_object_mut().unwrap();
    assert_eq!(shown.remove("verdicts"), Some(json!([])));
    let born = json!([{ "event": "case.created", "at": "2026-11-21T12:00:00Z", "by": tool.key_id() }]);
    assert_eq!(shown.remove("timeline"), Some(born));
    assert_eq!(Value::from(shown.clone()), created);
    let listed = tool.get("").await;
    assert_eq!(listed.json()["cases"][1], created);
    assert!(listed.text.starts_with(&format!(r#"{{"cases":[{text},"#)), "{}", listed.text);
    assert!(listed.text.ends_with(r#"],"next_cursor":null}"#), "{}", listed.text);
}

#[tokio::test]
async fn the_same_case_again_is_the_existing_one_and_another_under_its_id_is_refused() {
    let server = Server::start().await;
    let tool = Tool::of(&server, "acme").await;
    let body = json!({
        "case_id": ABSENT, "title": "t", "severity": "low", "description": "d", "metadata": { "a": 1 },
        "event_ids": [ABSENT],
    });
    assert_eq!(tool.post("", &body).await.status, 201);
    server.clock.advance(Duration::from_secs(60));
    tool.verdict(ABSENT, &json!({ "outcome": "SAFE" })).await;
    let again = tool.post("", &body).await;
    assert_eq!((again.status, replayed(&again)), (200, false));
    let (again, shown) = (again.json(), tool.show(ABSENT).await);
    assert_eq!((&again["state"], &again["metadata"]), (&json!("closed"), &json!({ "a": 1 })));
    assert!(again.as_object().unwrap().iter().all(|(field, value)| shown[field] == *value), "as it is by now");
    for (field, value) in [
        ("title", json!("u")),
        ("severity", json!("high")),
        ("description", json!(null)),
        ("metadata", json!({ "a": 2 })),
        ("event_ids", json!([])),
    ] {
        let mut other = body.clone();
        other[field] = value;
        let refused = tool.post("", &other).await;
        let sentence = "A case with this id exists with other content".to_owned();
        assert_eq!(refusal(&refused), (409, sentence), "{field}");
    }
    assert_eq!(tool.ids("").await, [ABSENT]);
}

#[tokio::test]
async fn every_mistake_in_a_case_is_told_with_its_place() {
    let server = Server::start().await;
    let tool = Tool::of(&server, "acme").await;
    let missing = tool.post("", &json!({})).await;
    let at = |field: &str, kind: &str| (json!(["body", field]), kind.to_owned());
    assert_eq!(mistakes(&missing), [at("title", "missing"), at("severity", "missing")]);
    let ids = |count: usize| (0..count).map(|_| uuid::Uuid::new_v4().to_string()).collect::<Vec<_>>();
    for (field, value) in [
        ("case_id", json!("feed")),
        ("case_id", json!(ABSENT.replace('-', ""))),
        ("title", json!("")),
        ("title", json!("x".repeat(301))),
        ("title", json!("a\u{0}b")),
        ("title", json!(null)),
        ("title", json!(1)),
        ("severity", json!("HIGH")),
        ("severity", json!("urgent")),
        ("severity", json!(null)),
        ("description", json!("x".repeat(10_001))),
        ("description", json!(["x"])),
        ("event_ids", json!(ids(201))),
        ("event_ids", json!(vec![ABSENT; 201])),
        ("event_ids", json!(["evt-1"])),
        ("event_ids", json!(ABSENT)),
        ("metadata", json!([])),
        ("metadata", json!("{}")),
    ] {
        let mut body = json!({ "title": "t", "severity": "low" });
        body[field] = value;
        assert_eq!(mistakes(&tool.post("", &body).await), [at(field, "value_error")], "{body}");
    }
    let all = json!({ "case_id": 1, "title": 1, "severity": 1, "description": 1, "event_ids": 1, "metadata": 1 });
    assert_eq!(mistakes(&tool.post("", &all).await).len(), 6);
    for body in ["", "{", "[]", "null", r#"{"title":"t","title":"t","severity":"low"}"#] {
        let refused = send(tool.request(Method::POST, "").body(body)).await;
        assert_eq!(mistakes(&refused), [(json!(["body"]), "json_invalid".to_owned())], "{body}");
    }
    assert_eq!(tool.ids("").await, Vec::<String>::new());
    let full = json!({ "event_ids": ids(200), "description": "x".repeat(10_000), "ignored": true });
    tool.create(full).await;
}

#[tokio::test]
async fn a_case_may_be_as_large_as_a_request() {
    let server = Server::start().await;
    let tool = Tool::of(&server, "acme").await;
    // Numbers that are written longer than they were sent, and text that grows when it is escaped.
    let numbers = "1e15,".repeat(15_000);
    let text = r#"{"title":"t","severity":"low","metadata":{"n":["#.to_owned() + &numbers + "0]}}";
    let created = send(tool.request(Method::POST, "").header("Idempotency-Key", "k").body(text)).await;
    assert_eq!(created.status, 201, "{}", created.text);
    let quotes = "\"".repeat(120_000);
    let id = tool.create(json!({ "metadata": { "q": quotes }, "description": "😀".repeat(4000) })).await;
    assert_eq!(tool.show(&id).await["metadata"]["q"], quotes);
    let text = r#"{"title":"t","severity":"low","metadata":{"n":["#.to_owned() + &"1e15,".repeat(40_000) + "0]}}";
    let refused = send(tool.request(Method::POST, "").body(text)).await;
    assert_eq!(mistakes(&refused), [(json!(["body", "metadata"]), "value_error".to_owned())]);
    let mut deep = json!(1);
    for _ in 0..126 {
        deep = json!([deep]);
    }
    let body = json!({ "case_id": ABSENT, "title": "t", "severity": "low", "metadata": { "deep": deep } });
    assert_eq!(tool.post("", &body).await.status, 201);
    let shown = tool.get(&format!("/{ABSENT}")).await;
    assert!(shown.status == 200 && shown.text.contains(&deep.to_string()));
}

#[tokio::test]
async fn each_outcome_leads_to_its_state() {
    let server = Server::start().await;
    let tool = Tool::of(&server, "acme").await;
    for (outcome, resolved, state, effect) in [
        ("SAFE", true, "closed", "case.resolved"),
        ("TRUE_POSITIVE", true, "enforced", "case.resolved"),
        ("FALSE_POSITIVE", true, "closed", "case.resolved"),
        ("DUPLICATE", true, "closed", "case.resolved"),
        ("ESCALATED", false, "investigating", "case.escalated"),
    ] {
        let id = tool.create(json!({})).await;
        server.clock.advance(Duration::from_secs(7));
        let at = countersign_domain::rfc3339(server.clock.now());
        let body = json!({ "outcome": outcome, "comment": "c", "event_ids": [ABSENT, ABSENT.to_uppercase()] });
        let accepted = tool.verdict(&id.to_uppercase(), &body).await;
        let text = format!(
            r#"{{"success":true,"case_id":"{id}","outcome":"{outcome}","resolved":{resolved},"processed_at":"{at}"}}"#
        );
        assert_eq!((accepted.status, accepted.text), (200, text));
        let shown = tool.show(&id).await;
        assert_eq!(
            (&shown["state"], &shown["outcome"], &shown["resolved"], &shown["updated_at"]),
            (&json!(state), &json!(outcome), &json!(resolved), &json!(at))
        );
        let given = &shown["verdicts"][0];
        assert!(given["verdict_id"].as_str().unwrap().parse::<uuid::Uuid>().is_ok());
        let expected = json!([{
            "verdict_id": given["verdict_id"], "outcome": outcome, "comment": "c", "event_ids": [ABSENT],
            "by": tool.key_id(), "processed_at": at,
        }]);
        assert_eq!(shown["verdicts"], expected);
        let events = shown["timeline"].as_array().unwrap().iter().map(|event| event["event"].as_str().unwrap());
        assert_eq!(events.collect::<Vec<_>>(), ["case.created", "case.verdict_submitted", effect]);
        assert_eq!(shown["timeline"][2], json!({ "event": effect, "at": at, "by": tool.key_id() }));
    }
}

#[tokio::test]
async fn a_resolved_case_takes_no_second_verdict_but_repeats_its_answer_to_the_same_key() {
    let server = Server::start().await;
    let tool = Tool::of(&server, "acme").await;
    let colleague = Tool::of(&server, "acme").await;
    let id = tool.create(json!({})).await;
    let events = [ABSENT, "3c90c3cc-0d44-4b50-8888-8dd25736052a"];
    let body = json!({ "outcome": "FALSE_POSITIVE", "comment": "c", "event_ids": events });
    let first = tool.verdict(&id, &body).await;
    assert_eq!(first.status, 200);
    server.clock.advance(Duration::from_hours(1));
    let mut spelled = body.clone();
    spelled["event_ids"] = json!([events[0].to_uppercase(), events[0], events[1]]);
    for same in [&body, &spelled] {
        let again = tool.verdict(&id, same).await;
        assert_eq!((again.status, &again.text), (200, &first.text), "{same}");
    }
    let refused = (409, "Case already resolved as FALSE_POSITIVE".to_owned());
    assert_eq!(refusal(&colleague.verdict(&id, &body).await), refused, "another key");
    for (field, value) in [
        ("outcome", json!("SAFE")),
        ("outcome", json!("ESCALATED")),
        ("comment", json!("d")),
        ("comment", json!(null)),
        ("event_ids", json!([events[1], events[0]])),
        ("event_ids", json!([])),
    ] {
        let mut other = body.clone();
        other[field] = value;
        assert_eq!(refusal(&tool.verdict(&id, &other).await), refused, "{other}");
    }
    let shown = tool.show(&id).await;
    assert_eq!(shown["verdicts"].as_array().unwrap().len(), 1, "nothing of that was recorded");
    assert_eq!(shown["updated_at"], "2026-11-21T12:00:00Z");
}

#[tokio::test]
async fn an_escalated_case_can_be_escalated_again_or_resolved() {
    let server = Server::start().await;
    let tool = Tool::of(&server, "acme").await;
    let id = tool.create(json!({})).await;
    let escalate = json!({ "outcome": "ESCALATED", "comment": "to the SOC" });
    for _ in 0..2 {
        let escalated = tool.verdict(&id, &escalate).await;
        assert_eq!((escalated.status, &escalated.json()["resolved"]), (200, &json!(false)));
    }
    let resolved = tool.verdict(&id, &json!({ "outcome": "TRUE_POSITIVE" })).await;
    assert_eq!((resolved.status, &resolved.json()["resolved"]), (200, &json!(true)));
    assert_eq!(
        refusal(&tool.verdict(&id, &escalate).await),
        (409, "Case already resolved as TRUE_POSITIVE".to_owned())
    );
    let shown = tool.show(&id).await;
    let outcomes = shown["verdicts"].as_array().unwrap().iter().map(|verdict| verdict["outcome"].as_str().unwrap());
    assert_eq!(outcomes.collect::<Vec<_>>(), ["ESCALATED", "ESCALATED", "TRUE_POSITIVE"]);
}

#[tokio::test]
async fn a_thousand_escalations_of_one_case_are_all_shown() {
    let server = Server::start().await;
    let tool = Tool::of(&server, "acme").await;
    let id = tool.create(json!({})).await;
    for n in 0..1000 {
        let escalated = tool.verdict(&id, &json!({ "outcome": "ESCALATED", "comment": n.to_string() })).await;
        assert_eq!(escalated.status, 200);
    }
    let shown = tool.get(&format!("/{id}")).await;
    assert_eq!(shown.header("link"), None);
    let shown = shown.json();
    let comments: Vec<_> =
        shown["verdicts"].as_array().unwrap().iter().map(|verdict| verdict["comment"].as_str().unwrap()).collect();
    assert_eq!(comments, (0..1000).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(shown["timeline"].as_array().unwrap().len(), 2001);
    let verified = countersign::verify::tenant(&server.app.store, &"acme".parse().unwrap()).await.unwrap();
    assert_eq!((verified.broken, verified.entries), (None, 2002), "the key's entry is in it");
}

#[tokio::test]
async fn of_a_history_beyond_4_mb_the_latest_is_shown_with_a_link_to_what_was_before() {
    let server = Server::start().await;
    let tool = Tool::of(&server, "acme").await;
    let id = tool.create(json!({ "description": "d".repeat(10_000) })).await;
    let events: Vec<_> = (0..200).map(|_| uuid::Uuid::new_v4().to_string()).collect();
    for n in 0..300 {
        let comment = format!("{n} {}", "😀".repeat(1990));
        let body = json!({ "outcome": "ESCALATED", "comment": comment, "event_ids": events });
        assert_eq!(tool.verdict(&id, &body).await.status, 200);
    }
    let mut path = format!("/{id}");
    let (mut verdicts, mut timeline, mut pages) = (Vec::new(), Vec::new(), 0);
    loop {
        let page = tool.get(&path).await;
        assert!(page.status == 200 && page.text.len() < 4_100_000, "{} bytes", page.text.len());
        let told = page.json();
        verdicts.splice(0..0, told["verdicts"].as_array().unwrap().clone());
        timeline.splice(0..0, told["timeline"].as_array().unwrap().clone());
        pages += 1;
        let Some(link) = page.header("link") else { break };
        assert!(page.text.len() > 3_900_000, "a page has what has room: {} bytes", page.text.len());
        path = link.strip_prefix(&format!("<{CASES}")).unwrap().strip_suffix(r#">; rel="next""#).unwrap().to_owned();
    }
    assert!(pages > 1);
    let numbers = verdicts.iter().map(|verdict| verdict["comment"].as_str().unwrap().split(' ').next().unwrap());
    assert_eq!(numbers.collect::<Vec<_>>(), (0..300).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(timeline.len(), 601);
    assert_eq!(timeline[0]["event"], "case.created");
    let beyond = tool.get(&format!("/{id}?offset=9999")).await.json();
    assert_eq!((&beyond["verdicts"], &beyond["timeline"]), (&json!([]), &json!([])));
    for offset in ["10001", "-1", "x", ""] {
        let refused = tool.get(&format!("/{id}?offset={offset}")).await;
        assert_eq!(mistakes(&refused), [(json!(["query", "offset"]), "value_error".to_owned())], "{offset}");
    }
}

#[tokio::test]
async fn refusals_come_in_their_documented_order() {
    let server = Server::start().await;
    let tool = Tool::of(&server, "acme").await;
    let reader = Tool::with(&server, "acme", &["cases:read", "actions:submit", "webhooks:manage"]).await;
    let resolved = tool.create(json!({})).await;
    tool.verdict(&resolved, &json!({ "outcome": "SAFE" })).await;
    let wrong = json!({ "outcome": "MAYBE" });
    let stranger = Tool { server: &server, key: "cs_live_0_0".to_owned() };
    assert_eq!(stranger.verdict("no-uuid", &wrong).await.status, 401);
    let lacking = reader.verdict("no-uuid", &wrong).await;
    assert_eq!(refusal(&lacking), (403, "This API key lacks the scope cases:write".to_owned()));
    let path = |case_id: &str| format!("/{case_id}/verdict");
    let malformed = tool.verdict("no-uuid", &wrong).await;
    let (case_id, outcome) = (json!(["path", "case_id"]), json!(["body", "outcome"]));
    assert_eq!(mistakes(&malformed), [(case_id.clone(), "value_error".into()), (outcome, "value_error".into())]);
    let no_outcome = tool.verdict(ABSENT, &json!({})).await;
    assert_eq!(mistakes(&no_outcome), [(json!(["body", "outcome"]), "missing".to_owned())]);
    let no_key = tool.post_once(&path(ABSENT), &"k".repeat(256), &json!({ "outcome": "SAFE" })).await;
    assert_eq!(mistakes(&no_key), [(json!(["header", "Idempotency-Key"]), "value_error".to_owned())]);
    let absent = tool.verdict(ABSENT, &json!({ "outcome": "SAFE" })).await;
    assert_eq!((absent.status, absent.text.as_str()), (404, NOT_FOUND));
    let late = tool.verdict(&resolved, &json!({ "outcome": "ESCALATED" })).await;
    assert_eq!(refusal(&late), (409, "Case already resolved as SAFE".to_owned()));
    for id in ["no-uuid", "feed", "%25", &ABSENT.replace('-', ""), "{f4a5b6c7-d8e9-0123-f012-456789012cde}"] {
        let refused = tool.post(&path(id), &json!({ "outcome": "SAFE" })).await;
        assert_eq!(mistakes(&refused), [(case_id.clone(), "value_error".to_owned())], "{id}");
    }
    let malformed = tool.get("/no-uuid").await;
    assert_eq!(mistakes(&malformed), [(case_id, "value_error".to_owned())]);
    assert_eq!(tool.get(&format!("/{ABSENT}")).await.text, NOT_FOUND);
}

#[tokio::test]
async fn every_mistake_in_a_verdict_is_told_with_its_place() {
    let server = Server::start().await;
    let tool = Tool::of(&server, "acme").await;
    let id = tool.create(json!({})).await;
    for (field, value) in [
        ("outcome", json!("safe")),
        ("outcome", json!("")),
        ("outcome", json!(null)),
        ("comment", json!("ü".repeat(2001))),
        ("comment", json!("\u{1b}")),
        ("comment", json!({})),
        ("event_ids", json!(vec![ABSENT; 201])),
        ("event_ids", json!(["x"])),
        ("event_ids", json!([null])),
        ("event_ids", json!({})),
    ] {
        let mut body = json!({ "outcome": "SAFE" });
        body[field] = value;
        let refused = tool.verdict(&id, &body).await;
        assert_eq!(mistakes(&refused), [(json!(["body", field]), "value_error".to_owned())], "{body}");
    }
    assert_eq!(tool.show(&id).await["state"], "discover");
    let most = json!({ "outcome": "SAFE", "comment": "ü".repeat(2000), "event_ids": vec![ABSENT; 200], "more": 1 });
    assert_eq!(tool.verdict(&id, &most).await.status, 200);
    assert_eq!(tool.show(&id).await["verdicts"][0]["event_ids"], json!([ABSENT]));
}

#[tokio::test]
async fn bodies_are_bounded_and_json_in_this_doors_words() {
    let server = Server::start().await;
    let tool = Tool::of(&server, "acme").await;
    let reader = Tool::with(&server, "acme", &["cases:read"]).await;
    for path in ["", &format!("/{ABSENT}/verdict")] {
        let large = || vec![b' '; 256 * 1024 + 1];
        let refused = send(tool.request(Method::POST, path).body(large())).await;
        assert_eq!(refusal(&refused), (413, "the body must have at most 262144 bytes".to_owned()));
        let text = |tool: &Tool<'_>| tool.request(Method::POST, path).header("Content-Type", "text/plain").body("{}");
        assert_eq!(refusal(&send(text(&tool)).await), (415, "the content type must be application/json".to_owned()));
        assert_eq!(send(text(&reader)).await.status, 403);
        assert_eq!(send(reader.request(Method::POST, path).body(large())).await.status, 403);
    }
    let unknown = tool.get("/a/b").await;
    assert_eq!(refusal(&unknown), (404, "there is nothing at this path".to_owned()));
    let method = send(tool.request(Method::PUT, "")).await;
    assert_eq!((method.status, method.header("allow")), (405, Some("POST,GET,HEAD")));
    assert!(method.json()["detail"].is_string());
}

#[tokio::test]
async fn listings_are_filtered_and_paged_oldest_first() {
    let server = Server::start().await;
    let tool = Tool::of(&server, "acme").await;
    let mut ids = Vec::new();
    for n in 0..23 {
        ids.push(tool.create(json!({ "title": n.to_string(), "description": "d" })).await);
        server.clock.advance(Duration::from_secs(1));
    }
    let outcomes = ["SAFE", "TRUE_POSITIVE", "FALSE_POSITIVE", "DUPLICATE", "ESCALATED"];
    for (n, id) in ids.iter().enumerate().skip(3) {
        tool.verdict(id, &json!({ "outcome": outcomes[n % 5] })).await;
    }
    let with = |wanted: &[&str]| {
        let all = ids.iter().enumerate().skip(3);
        all.filter(|(n, _)| wanted.contains(&outcomes[n % 5])).map(|(_, id)| id.clone()).collect::<Vec<_>>()
    };
    for page_size in [1, 7, 23, 200] {
        let list = async |query: &str| tool.ids(&format!("page_size={page_size}&{query}")).await;
        assert_eq!(list("").await, ids);
        assert_eq!(list("state=discover").await, ids[..3]);
        assert_eq!(list("state=closed").await, with(&["SAFE", "FALSE_POSITIVE", "DUPLICATE"]));
        assert_eq!(list("state=enforced").await, with(&["TRUE_POSITIVE"]));
        assert_eq!(list("state=investigating").await, with(&["ESCALATED"]));
        assert_eq!(list("state=pending_investigation").await, Vec::<String>::new());
        assert_eq!(list("outcome=DUPLICATE").await, with(&["DUPLICATE"]));
        assert_eq!(list("outcome=SAFE&state=closed").await, with(&["SAFE"]));
        assert_eq!(list("outcome=SAFE&state=enforced").await, Vec::<String>::new());
    }
    let first = tool.get("?page_size=22").await;
    assert!(first.json()["next_cursor"].is_string());
    assert_eq!(tool.get("?page_size=23").await.json()["next_cursor"], json!(null));
    let usual = tool.get("").await.json();
    assert_eq!(usual["cases"][0]["description"], "d");
}

#[tokio::test]
async fn a_page_has_50_cases_unless_it_is_said_otherwise() {
    let server = Server::start().await;
    let tool = Tool::of(&server, "acme").await;
    futures_util::future::join_all((0..51).map(|_| tool.create(json!({})))).await;
    assert_eq!(case_ids(&tool.get("").await).len(), 50);
    assert_eq!(case_ids(&tool.get("/feed").await).len(), 50);
}

#[tokio::test]
async fn what_is_wrong_with_a_query_is_told_with_its_place() {
    let server = Server::start().await;
    let tool = Tool::of(&server, "acme").await;
    for _ in 0..2 {
        tool.create(json!({})).await;
    }
    let page = tool.get("?page_size=1").await.json();
    let cursor = page["next_cursor"].as_str().unwrap();
    for (query, field) in [
        ("page_size=0", "page_size"),
        ("page_size=201", "page_size"),
        ("page_size=1.0", "page_size"),
        ("page_size=", "page_size"),
        ("page_size=1&page_size=1", "page_size"),
        ("state=open", "state"),
        ("state=DISCOVER", "state"),
        ("state=", "state"),
        ("outcome=safe", "outcome"),
        ("cursor=", "cursor"),
        ("cursor=x", "cursor"),
        (&format!("cursor={cursor}A"), "cursor"),
        (&format!("cursor={}", &cursor[1..]), "cursor"),
        (&format!("state=discover&cursor={cursor}"), "cursor"),
    ] {
        let refused = tool.get(&format!("?{query}")).await;
        assert_eq!(mistakes(&refused), [(json!(["query", field]), "value_error".to_owned())], "{query}");
    }
    for query in ["page_size=0", "page_size=201", "page_size=x"] {
        let refused = tool.get(&format!("/feed?{query}")).await;
        assert_eq!(mistakes(&refused), [(json!(["query", "page_size"]), "value_error".to_owned())], "{query}");
    }
    assert_eq!(tool.get(&format!("?cursor={cursor}")).await.status, 200);
    let other = Tool::of(&server, "other").await;
    other.create(json!({})).await;
    let foreign = other.get(&format!("?cursor={cursor}")).await;
    let forged = other.get(&format!("?cursor={cursor}A")).await;
    assert_eq!((foreign.status, &foreign.text), (422, &forged.text));
}

#[tokio::test]
async fn a_page_stops_at_4_mb() {
    let server = Server::start().await;
    let tool = Tool::of(&server, "acme").await;
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(tool.create(json!({ "metadata": { "m": "x".repeat(250_000) } })).await);
        server.clock.advance(Duration::from_secs(1));
    }
    let page = tool.get("?page_size=200").await;
    assert!(page.text.len() < 4_100_000 && case_ids(&page).len() >= 15);
    assert!(page.json()["next_cursor"].is_string());
    assert_eq!(tool.ids("page_size=200").await, ids);
    let page = tool.get("/feed?page_size=200").await;
    assert!(page.text.len() < 4_100_000, "{} bytes", page.text.len());
    let first = case_ids(&page);
    assert_eq!(first, ids[..first.len()]);
    assert!(first.len() >= 14, "{}", first.len());
    assert_eq!(tool.ids("state=pending_investigation").await, first, "what has no room is not claimed");
    assert_eq!(case_ids(&tool.get("/feed?page_size=200").await), ids[first.len()..]);
}

#[tokio::test]
async fn a_repeated_call_is_replayed_and_acts_no_more() {
    let server = Server::start().await;
    let tool = Tool::of(&server, "acme").await;
    let body = json!({ "title": "t", "severity": "low" });
    let first = tool.post_once("", "k", &body).await;
    let again = tool.post_once("", "k", &body).await;
    assert_eq!((first.status, replayed(&first)), (201, false));
    assert_eq!((again.status, &again.text, replayed(&again)), (201, &first.text, true));
    let id = first.json()["case_id"].as_str().unwrap().to_owned();
    assert_eq!(tool.ids("").await, [&*id]);
    let reused = tool.post_once("", "k", &json!({ "title": "u", "severity": "low" })).await;
    let sentence = "this Idempotency-Key was used with another body; use a new one".to_owned();
    assert_eq!(refusal(&reused), (422, sentence));

    let path = format!("/{id}/verdict");
    let escalate = json!({ "outcome": "ESCALATED" });
    let first = tool.post_once(&path, "k", &escalate).await;
    server.clock.advance(Duration::from_secs(60));
    let again = tool.post_once(&path, "k", &escalate).await;
    assert_eq!((again.status, &again.text, replayed(&again)), (200, &first.text, true));
    assert_eq!(tool.show(&id).await["verdicts"].as_array().unwrap().len(), 1);
    let safe = json!({ "outcome": "SAFE" });
    assert_eq!(tool.post_once(&path, "s", &safe).await.status, 200);
    let late = tool.post_once(&path, "k", &escalate).await;
    assert_eq!((late.status, &late.text, replayed(&late)), (200, &first.text, true), "what was said then");
    let colleague = Tool::of(&server, "acme").await;
    assert_eq!(colleague.post_once(&path, "s", &safe).await.status, 409, "a key's own");
}

#[tokio::test]
async fn a_verdict_costs_one_read_and_one_transaction() {
    let server = Server::doors_only().await;
    let tool = Tool::of(&server, "acme").await;
    let id = tool.create(json!({ "description": "d" })).await;
    assert_eq!(case_ids(&tool.get("/feed").await), [&*id]);
    let _ = server.table.take_calls();
    assert_eq!(tool.verdict(&id, &json!({ "outcome": "SAFE" })).await.status, 200);
    let calls = server.table.take_calls();
    let calls: Vec<_> = calls.iter().map(|call| (call.operation.as_str(), call.items)).collect();
    assert_eq!(calls, [("GetItem", 0), ("TransactWriteItems", 2)]);
    // The recorded answer again is only a read.
    assert_eq!(tool.verdict(&id, &json!({ "outcome": "SAFE" })).await.status, 200);
    assert_eq!(server.table.take_calls().len(), 1);
}
