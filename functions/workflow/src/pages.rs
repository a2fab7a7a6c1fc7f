//! What people read the API by: the document itself, and Swagger UI and Redoc over it. Nothing that the pages show or run
//! comes from anywhere else.

use crate::document::document;
use aide::redoc::Redoc;
use axum::Router;
use axum::body::Bytes;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use sha2::{Digest, Sha256};
use std::sync::{Arc, LazyLock};
use utoipa_swagger_ui::Config;

/// Where Redoc finds the document; as all addresses in the pages, beside where it is, so that a stage may come before it.
const DOCUMENT: &str = "openapi.json";
/// What Redoc would fetch from its makers to say who made it, and what it shows instead.
const LOGO: (&str, &str) = (
    "https://cdn.redoc.ly/redoc/logo-mini.svg",
    "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7",
);

/// What each page may load: only what is served here.
const SWAGGER_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                              connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'";
/// Redoc writes its styles into the page while it runs, and searches in a worker that it writes itself.
const REDOC_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; style-src-elem 'self' 'unsafe-inline'; \
                            img-src 'self' data:; connect-src 'self'; worker-src blob:; form-action 'none'; \
                            frame-ancestors 'none'; base-uri 'none'";
/// What is no page loads nothing.
const NO_PAGE: &str = "default-src 'none'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'";

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// The URLs of the pages; they need nothing but themselves.
pub fn pages<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let pages = Router::new()
        .route("/openapi.json", get(async |asked: HeaderMap| OPENAPI.answer(&asked)))
        .route("/docs", get(async |asked: HeaderMap| SWAGGER.answer(&asked)))
        .route("/docs/start.js", get(async |asked: HeaderMap| SWAGGER_START.answer(&asked)))
        .route("/docs/swagger-ui.css", get(async |asked: HeaderMap| SWAGGER_STYLE.answer(&asked)))
        .route("/docs/swagger-ui-bundle.js", get(async |asked: HeaderMap| SWAGGER_SCRIPT.answer(&asked)))
        .route("/redoc", get(async |asked: HeaderMap| REDOC.answer(&asked)))
        .route("/redoc/redoc.css", get(async |asked: HeaderMap| REDOC_STYLE.answer(&asked)))
        .route("/redoc/redoc.js", get(async |asked: HeaderMap| REDOC_SCRIPT.answer(&asked)));
    Router::new().nest("/v1/awe", pages)
}

static OPENAPI: LazyLock<Served> =
    LazyLock::new(|| Served::new("application/json", document().to_json().unwrap_or_default()));
static SWAGGER: LazyLock<Served> = LazyLock::new(|| Served::page(include_str!("pages/swagger.html"), SWAGGER_POLICY));
static SWAGGER_START: LazyLock<Served> = LazyLock::new(|| Served::new(SCRIPT, include_str!("pages/swagger.js")));
static SWAGGER_STYLE: LazyLock<Served> = LazyLock::new(|| Served::of_swagger(STYLE, "swagger-ui.css"));
static SWAGGER_SCRIPT: LazyLock<Served> = LazyLock::new(|| Served::of_swagger(SCRIPT, "swagger-ui-bundle.js"));
static REDOC: LazyLock<Served> = LazyLock::new(|| Served::page(include_str!("pages/redoc.html"), REDOC_POLICY));
static REDOC_STYLE: LazyLock<Served> = LazyLock::new(|| Served::new(STYLE, include_str!("pages/redoc.css")));
static REDOC_SCRIPT: LazyLock<Served> = LazyLock::new(|| Served::new(SCRIPT, redoc_script()));

/// The script out of the page that the crate makes, which has it between its only tags.
fn redoc_script() -> String {
    let page = Redoc::new(DOCUMENT).html();
    let script = page.split_once("<script>").and_then(|(_, rest)| rest.rsplit_once("</script>"));
    script.map(|(script, _)| script.replace(LOGO.0, LOGO.1)).unwrap_or_default()
}

/// Something that is the same for everybody until the next version.
struct Served {
    content_type: &'static str,
    policy: &'static str,
    is_gzip: bool,
    body: Bytes,
    tag: HeaderValue,
}

impl Served {
    fn new(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let tag = format!("\"{}\"", hex::encode(&Sha256::digest(&body)[..16]));
        let tag = HeaderValue::try_from(tag).unwrap_or(HeaderValue::from_static("\"\""));
        Self { content_type, policy: NO_PAGE, is_gzip: false, body, tag }
    }

    fn page(html: &'static str, policy: &'static str) -> Self {
        Self { policy, ..Self::new(HTML, html) }
    }

    /// A file of Swagger UI.
    fn of_swagger(content_type: &'static str, name: &str) -> Self {
        let file = utoipa_swagger_ui::serve(name, Arc::new(Config::default())).ok().flatten();
        let (body, is_gzip) = file.map(|file| (file.bytes.into_owned(), file.gzpipped)).unwrap_or_default();
        Self { is_gzip, ..Self::new(content_type, body) }
    }

    fn answer(&self, asked: &HeaderMap) -> Response {
        let known = asked.get_all(header::IF_NONE_MATCH).iter().filter_map(|tags| tags.to_str().ok());
        let mut tags = known.flat_map(|tags| tags.split(',')).map(|tag| tag.trim().trim_start_matches("W/"));
        let is_known = tags.any(|tag| tag == "*" || self.tag == tag);
        let mut response =
            if is_known { StatusCode::NOT_MODIFIED.into_response() } else { self.body.clone().into_response() };
        let headers = response.headers_mut();
        headers.insert(header::ETAG, self.tag.clone());
        // It may be kept, and is asked for again: the next version may say something else.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(self.policy));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        if !is_known {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
            if self.is_gzip {
                headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
        }
        response
    }
}
