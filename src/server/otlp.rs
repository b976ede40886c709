//! Spans of requests to an OpenTelemetry collector (OTLP over HTTP, protobuf). Spans carry ids, routes and times, no content.

use std::time::Duration;

use anyhow::{Context, Result};
use axum::body::Bytes;
use axum::http::{Request, Response};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::registry::LookupSpan;

/// A collector that does not answer loses spans; requests never wait for it.
const TIMEOUT: Duration = Duration::from_secs(5);
const LARGEST_ANSWER: u64 = 64 << 10;

/// Sends what is left when it is dropped.
pub(crate) struct Spans {
    provider: SdkTracerProvider,
}

impl Drop for Spans {
    fn drop(&mut self) {
        let _ = self.provider.shutdown_with_timeout(TIMEOUT);
    }
}

/// A layer that exports spans to `endpoint`, such as `http://collector:4318/v1/traces`.
///
/// # Errors
/// The endpoint is no URL.
pub(crate) fn layer<S>(endpoint: &str) -> Result<(impl Layer<S> + use<S>, Spans)>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let config = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).build();
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Client { agent: config.into() })
        .with_endpoint(endpoint)
        .build()
        .with_context(|| format!("otlp_endpoint {endpoint}"))?;
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(Resource::builder().with_service_name("swinseek").build())
        .build();
    let tracer = provider.tracer("swinseek");
    Ok((tracing_opentelemetry::layer().with_tracer(tracer), Spans { provider }))
}

/// The batch exporter has a thread of its own, which may wait.
#[derive(Debug)]
struct Client {
    agent: ureq::Agent,
}

#[async_trait::async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        let response = self.agent.run(Request::from_parts(parts, body.to_vec()))?;
        let (parts, mut body) = response.into_parts();
        let bytes = body.with_config().limit(LARGEST_ANSWER).read_to_vec()?;
        Ok(Response::from_parts(parts, Bytes::from(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;

    use tracing_subscriber::prelude::*;

    use super::*;

    #[test]
    fn a_span_reaches_the_collector() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = format!("http://{}/v1/traces", listener.local_addr().expect("bound"));
        let (layer, spans) = layer(&endpoint).expect("a layer");
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            tracing::info_span!("request", route = "/v1/models").in_scope(|| ());
        });
        let collector = std::thread::spawn(move || {
            let (stream, _) = listener.accept().expect("a connection");
            let mut reader = BufReader::new(stream);
            let (mut head, mut length) = (String::new(), 0);
            while reader.read_line(&mut head).expect("a line") > 2 {
                let line = head.lines().last().unwrap_or_default().to_ascii_lowercase();
                if let Some(value) = line.strip_prefix("content-length:") {
                    length = value.trim().parse().expect("a length");
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("a body");
            reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").expect("written");
            (head, body)
        });
        drop(spans);
        let (head, body) = collector.join().expect("no panic");
        assert!(head.starts_with("POST /v1/traces "), "{head}");
        let holds = |text: &str| body.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(holds("request") && holds("/v1/models") && holds("service.name"), "{head}");
    }
}
