//! A CRM with a Salesforce-style query API and several customers' data, told apart by their bearer tokens.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! use clawhold_test_support::crm::{self, Customer};
//!
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! let crm = crm::serve(listener, vec![Customer::sample("acme-corp", "a-token").unwrap()])?;
//! assert!(crm.url().starts_with("http://127.0.0.1:"));
//! # Ok(())
//! # }
//! ```
//!
//! It runs whatever query it is sent, `OR` and `LIKE` included, so a skill that pastes a name into its query
//! really is open to injection here. `GET /__seen` tells which credentials came, as fingerprints.
//!
//! It does not write, sort by several fields, join or page.

mod data;
mod select;
mod soql;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use data::{Customer, SAMPLES};

/// Bytes of a credential's SHA-256 that are shown: enough to tell credentials apart, and useless to guess one from.
const FINGERPRINT_BYTES: usize = 6;

/// A running CRM. It stops when this is dropped.
#[derive(Debug)]
pub struct Crm {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<io::Result<()>>,
}

/// What came from one customer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// How many queries came with a token of this customer.
    pub requests: u64,
    /// Fingerprints of the tokens.
    pub credentials: BTreeSet<String>,
    /// The newest query.
    pub last_query: Option<String>,
}

#[derive(Debug)]
struct Shared {
    customers: Vec<Customer>,
    log: Mutex<Log>,
}

#[derive(Debug, Default)]
struct Log {
    by_customer: BTreeMap<String, Seen>,
    refused: u64,
}

/// Serves the customers' data to whoever has their token, until the handle is dropped.
pub fn serve(listener: TcpListener, customers: Vec<Customer>) -> io::Result<Crm> {
    let address = listener.local_addr()?;
    let by_customer = customers.iter().map(|customer| (customer.name().to_owned(), Seen::default())).collect();
    let log = Mutex::new(Log { by_customer, refused: 0 });
    let shared = Arc::new(Shared { customers, log });
    let router = Router::new()
        .route("/services/data/{version}/query", get(query))
        .route("/__seen", get(seen))
        .fallback(missing)
        .with_state(Arc::clone(&shared));
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(Crm { address, shared, server })
}

impl Crm {
    /// Where it listens, without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What came from the customer of this name so far.
    pub fn seen(&self, customer: &str) -> Seen {
        self.shared.log().by_customer.get(customer).cloned().unwrap_or_default()
    }

    /// How many requests came without the token of a customer.
    pub fn refused(&self) -> u64 {
        self.shared.log().refused
    }
}

impl Drop for Crm {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Shared {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn query(
    State(shared): State<Arc<Shared>>,
    Path(version): Path<String>,
    Query(parameters): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let token = bearer(&headers);
    let Some(customer) = shared.customers.iter().find(|customer| Some(customer.token()) == token) else {
        shared.log().refused += 1;
        return problem(StatusCode::UNAUTHORIZED, "INVALID_SESSION_ID", "Session expired or invalid");
    };
    let soql = parameters.get("q").map_or("", String::as_str);
    if let Some(seen) = shared.log().by_customer.get_mut(customer.name()) {
        seen.requests += 1;
        seen.credentials.insert(fingerprint(customer.token()));
        seen.last_query = Some(soql.to_owned());
    }
    match soql::parse(soql).and_then(|query| select::run(&query, customer.tables(), &version)) {
        Ok(records) => Json(json!({"totalSize": records.len(), "done": true, "records": records})).into_response(),
        Err(error) => problem(StatusCode::BAD_REQUEST, error.code(), &error.to_string()),
    }
}

async fn seen(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let log = shared.log();
    let customers: Vec<Value> = log
        .by_customer
        .iter()
        .map(|(name, seen)| {
            json!({
                "customer": name, "requests": seen.requests, "credentials": seen.credentials,
                "last_query": seen.last_query,
            })
        })
        .collect();
    Json(json!({"customers": customers, "refused": log.refused}))
}

async fn missing() -> Response {
    problem(StatusCode::NOT_FOUND, "NOT_FOUND", "The requested resource does not exist")
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

/// The API answers errors with a list, even though it is always of one.
fn problem(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!([{"message": message, "errorCode": code}]))).into_response()
}

fn fingerprint(credential: &str) -> String {
    let digest = Sha256::digest(credential);
    format!("sha256:{}…", hex::encode(&digest[..FINGERPRINT_BYTES]))
}

#[cfg(test)]
mod tests;
