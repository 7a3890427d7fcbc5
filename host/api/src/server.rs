//! Listening, and stopping in order.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use clawhold_runtime::Host;
use http::header::CONTENT_TYPE;
use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::gate::Peer;
use crate::patience::Patient;
use crate::problem::Failed;
use crate::routes::router;

/// How long a request's headers may take, on a new connection or a kept one.
const HEADER_TIME: Duration = Duration::from_secs(15);
/// Bytes of a request's headers that are buffered, and fields.
const HEADER_BYTES: usize = 64 * 1024;
const HEADERS: usize = 100;
/// Connections at a time: beyond that, new ones wait to be accepted.
const CONNECTIONS: usize = 10_000;
/// How long runs may go on, and connections linger, after a stop was asked for.
const PATIENCE: Duration = Duration::from_secs(10);

/// The media type of Prometheus's text format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Serves the API until `stop` resolves, then finishes or cuts what runs and commits the audit log.
pub async fn serve(listener: TcpListener, host: Arc<Host>, stop: impl Future<Output = ()>) {
    let connections = accept(listener, router(Arc::clone(&host)), stop).await;
    let stopping = host.stop(PATIENCE);
    let lingering = tokio::time::timeout(PATIENCE + Duration::from_secs(1), connections.shutdown());
    let ((), lingered) = tokio::join!(stopping, lingering);
    if lingered.is_err() {
        tracing::warn!("connections were still open when the time to stop was over; they are closed");
    }
}

/// Serves `/healthz`, `/readyz` and `/metrics`, for those who watch the process: on a listener of their own, without tokens.
pub async fn serve_operations(listener: TcpListener, host: Arc<Host>, stop: impl Future<Output = ()>) {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(host);
    accept(listener, router, stop).await.shutdown().await;
}

async fn ready(State(host): State<Arc<Host>>) -> Response {
    match host.ready().await {
        Ok(()) => (StatusCode::OK, "ok").into_response(),
        Err(problem) => Failed(problem).into_response(),
    }
}

async fn metrics(State(host): State<Arc<Host>>) -> Response {
    ([(CONTENT_TYPE, METRICS)], host.metrics()).into_response()
}

async fn accept(listener: TcpListener, router: Router, stop: impl Future<Output = ()>) -> GracefulShutdown {
    let connections = GracefulShutdown::new();
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIME).max_buf_size(HEADER_BYTES).max_headers(HEADERS);
    let mut stop = pin!(stop);
    loop {
        let next = async {
            let place = Arc::clone(&free).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = &mut stop => return connections,
            next = next => next,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                pause_after(&error).await;
                continue;
            }
        };
        let _best_effort = stream.set_nodelay(true);
        let service = Connection { router: TowerToHyperService::new(router.clone()), peer: Peer(peer.ip()) };
        let connection = server.serve_connection(TokioIo::new(Patient::new(stream)), service);
        let watched = connections.watch(connection);
        tokio::spawn(async move {
            let _place = place;
            if let Err(error) = watched.await {
                tracing::debug!(%error, "a connection ended");
            }
        });
    }
}

/// What answers the requests of one connection.
struct Connection {
    router: TowerToHyperService<Router>,
    peer: Peer,
}

impl Service<Request<Incoming>> for Connection {
    type Response = Response;
    type Error = Infallible;
    type Future = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Future;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.peer);
        self.router.call(request)
    }
}

/// Out of file descriptors, say: trying again at once would only burn the processor.
async fn pause_after(error: &io::Error) {
    tracing::warn!(%error, "a connection could not be accepted");
    tokio::time::sleep(Duration::from_millis(100)).await;
}
