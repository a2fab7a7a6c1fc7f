//! What a collector of OpenTelemetry is sent: a span for each call, beneath that of its caller, and one for each call to AWS.

use crate::events::{self, Request};
use crate::function::{Deployment, Function};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use countersign_testing::wire::Endpoint;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message;
use serde_json::json;
use std::sync::{Arc, Mutex};
use uuid::Uuid;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

#[derive(Clone, Default)]
struct Collected(Arc<Mutex<Vec<Bytes>>>);

impl Collected {
    async fn collector(&self) -> Endpoint {
        let take = async |State(collected): State<Self>, body: Bytes| collected.0.lock().unwrap().push(body);
        Endpoint::serve(Router::new().route("/v1/traces", post(take)).with_state(self.clone())).await.unwrap()
    }

    /// The name of the service, and its spans.
    fn take(&self) -> (String, Vec<Span>) {
        let (mut service, mut spans) = (String::new(), Vec::new());
        for body in self.0.lock().unwrap().drain(..) {
            for of_one in ExportTraceServiceRequest::decode(body).unwrap().resource_spans {
                let attributes = of_one.resource.unwrap().attributes;
                let named = attributes.into_iter().find(|attribute| attribute.key == "service.name").unwrap();
                service = format!("{:?}", named.value.unwrap());
                spans.extend(of_one.scope_spans.into_iter().flat_map(|scope| scope.spans));
            }
        }
        (service, spans)
    }
}

fn mint(customer: Uuid) -> Request {
    Request::new("POST", "/tokens/override").json(&json!({ "customer_id": customer, "event_id": "evt-1" }))
}

#[tokio::test]
async fn a_call_is_a_span_of_its_callers_trace_with_what_it_asked_of_aws_beneath_it() {
    let deployment = Deployment::start().await;
    let collected = Collected::default();
    let collector = collected.collector().await;
    let function = Function::start_traced(&deployment, &collector.url()).await;
    let customer = Uuid::new_v4();
    let minted = function.invoke(events::rest(&mint(customer), false)).await;
    let jti = minted.json()["jti"].as_str().unwrap().to_owned();
    collected.take();

    let decision = json!({ "override_jti": jti, "customer_id": customer, "decision": "approve" });
    let decide = Request::new("POST", "/overrides/evt-1/decide").json(&decision);
    let decide = decide.header("traceparent", format!("00-{TRACE}-{CALLER}-01"));
    assert_eq!(function.invoke(events::rest(&decide, false)).await.status, 200);

    // Sent before the call was answered.
    let (service, spans) = collected.take();
    assert!(service.contains("countersign-overrides"), "{service}");
    assert!(!format!("{spans:?}").contains(&jti), "whoever knows it could have decided: {spans:?}");
    let named = |name: &str| spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("{name}: {spans:?}"));
    let call = named("POST /overrides/{event_id}/decide");
    assert_eq!(call.kind, SpanKind::Server as i32);
    assert_eq!((hex::encode(&call.trace_id), hex::encode(&call.parent_span_id)), (TRACE.into(), CALLER.into()));
    let request = named("request");
    assert_eq!(request.parent_span_id, call.span_id);
    let asked =
        ["DynamoDB.GetItem", "DynamoDB.TransactWriteItems", "SQS.SendMessageBatch", "Secrets Manager.GetSecretValue"];
    for name in asked {
        assert_eq!(named(name).parent_span_id, request.span_id, "{name}");
    }
    assert_eq!(spans.len(), 2 + asked.len(), "{spans:?}");
    let status = call.attributes.iter().find(|attribute| attribute.key == "http.response.status_code");
    assert!(format!("{status:?}").contains("IntValue(200)"), "{status:?}");
}

#[tokio::test]
async fn a_collector_that_is_away_keeps_nobody_from_an_answer() {
    let deployment = Deployment::start().await;
    let gone = Collected::default().collector().await.url();
    let function = Function::start_traced(&deployment, &gone).await;
    let answer = function.invoke(events::rest(&mint(Uuid::new_v4()), false)).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert!(function.log().contains("traces were not sent"), "{}", function.log());
}
