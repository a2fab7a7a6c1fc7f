//! Traces by OpenTelemetry, for those who collect them: what a function does for one call, and each call that it makes to
//! AWS for that, sent by OTLP over HTTP.

use http::HeaderMap;
use opentelemetry::Context;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::HeaderExtractor;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use std::env;
use tracing::Metadata;
use tracing::subscriber::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::registry::LookupSpan;

/// Either of these says where to.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];

/// Spans on their way to a collector.
#[derive(Clone, Debug)]
pub(crate) struct Traces(SdkTracerProvider);

impl Traces {
    /// Begins to collect spans, if the variables of OpenTelemetry say where they are to go; they also say the rest:
    /// sampling, headers, attributes. The service is the function unless they name it.
    ///
    /// # Errors
    /// They make no sense.
    pub(crate) fn start() -> Result<Option<Self>, String> {
        if ENDPOINTS.iter().all(|name| env::var_os(name).is_none_or(|value| value.is_empty())) {
            return Ok(None);
        }
        let exporter = SpanExporter::builder().with_http().build();
        let exporter = exporter.map_err(|error| format!("OpenTelemetry: {error}"))?;
        let mut resource = Resource::builder();
        if let (Err(_), Ok(function)) = (env::var("OTEL_SERVICE_NAME"), env::var("AWS_LAMBDA_FUNCTION_NAME")) {
            resource = resource.with_service_name(function);
        }
        let provider = SdkTracerProvider::builder().with_resource(resource.build()).with_batch_exporter(exporter);
        Ok(Some(Self(provider.build())))
    }

    /// What makes spans of ours into spans of OpenTelemetry. Events are no part of them: those are the log.
    pub(crate) fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let layer = tracing_opentelemetry::layer().with_tracer(self.0.tracer("countersign"));
        // Where in the sources, and on which thread, is nobody's business.
        let layer = layer.with_location(false).with_threads(false).with_target(false).with_tracked_inactivity(false);
        layer.with_filter(FilterFn::new(is_exported))
    }

    /// Sends what there is, and waits for it.
    pub(crate) fn flush(&self) {
        if let Err(error) = self.0.force_flush() {
            tracing::warn!(%error, "traces were not sent");
        }
    }
}

/// Our own spans, and those of the SDK's operations.
fn is_exported(metadata: &Metadata<'_>) -> bool {
    let of = |prefix| metadata.target().starts_with(prefix);
    metadata.is_span() && (of("countersign") || (of("aws_sdk_") && metadata.target().contains("::operation::")))
}

/// The span of whoever calls, by W3C's `traceparent`.
pub(crate) fn parent(headers: &HeaderMap) -> Context {
    TraceContextPropagator::new().extract(&HeaderExtractor(headers))
}
