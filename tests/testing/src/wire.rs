//! Loopback endpoints, and on one of them a table over the real wire for processes that cannot be handed an engine.

use aws_smithy_runtime_api::client::http::{HttpConnector, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A router on a free port of this machine, until it is dropped.
#[derive(Debug)]
pub struct Endpoint {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Endpoint {
    /// Serves a router; bodies may have any length.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn serve(router: Router) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let router = router.layer(DefaultBodyLimit::disable());
        let serving = tokio::spawn(async move {
            // It ends with the endpoint; who still calls then notices by itself.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, serving })
    }

    /// Host and port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL that an SDK takes.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// An endpoint that answers as `connector` does, for example a DynamoDB endpoint in front of an embedded engine.
///
/// A connector that fails becomes a 502.
///
/// # Errors
/// There is no free port.
pub async fn serve(connector: impl HttpConnector + 'static) -> io::Result<Endpoint> {
    let connector = SharedHttpConnector::new(connector);
    Endpoint::serve(Router::new().fallback(forward).with_state(connector)).await
}

async fn forward(State(connector): State<SharedHttpConnector>, headers: HeaderMap, body: Bytes) -> Response {
    let mut request = http::Request::new(SdkBody::from(body));
    *request.method_mut() = http::Method::POST;
    *request.headers_mut() = headers;
    let Ok(request) = HttpRequest::try_from(request) else { return StatusCode::BAD_REQUEST.into_response() };
    let answer = match connector.call(request).await {
        Ok(answer) => answer.try_into_http1x(),
        Err(error) => return (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    };
    match answer {
        Ok(answer) => answer.map(|body| Body::from(body.bytes().unwrap_or_default().to_vec())),
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}
