//! What other hosts on the same database change, told by NOTIFY.
//!
//! A connection that is gone in silence looks like one on which nothing happens, so silence is tested: what is not heard of for
//! [`SILENCE`] is asked, and has [`PATIENCE`] to answer. Within the sum of both, less than the second that a revocation may
//! take, whoever listens knows that nobody tells them any more.

use std::time::Duration;

use sqlx::postgres::PgListener;
use sqlx::{AnyConnection, Executor as _};

use crate::StoreError;
use crate::error::failed;

const CHANNEL: &str = "clawhold_changes";
const SILENCE: Duration = Duration::from_millis(400);
const PATIENCE: Duration = Duration::from_millis(300);
/// Between attempts to connect again.
const PAUSE: Duration = Duration::from_millis(250);
const CONNECT: Duration = Duration::from_secs(2);

/// Something that other hosts must not go on believing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// From now on changes are told.
    Listening,
    /// From now on nobody tells: ask the database.
    Deaf,
    /// A token was revoked.
    Token(String),
    /// A tenant's state is another.
    Tenant(String),
    /// What a tenant has installed is another. Apart from the above: tenants do this themselves, as often as they like, and it
    /// must cost others nothing.
    Installs(String),
    /// What becomes of a package's versions is another.
    Index,
    /// A publisher's keys are others.
    Publishers,
}

/// Changes as they come.
pub struct Changes {
    url: String,
    listener: Option<PgListener>,
}

impl Changes {
    pub(in crate::driver) fn new(url: String) -> Self {
        Self { url, listener: None }
    }

    /// The next one. Never ends; not to be cut off in the middle and called again, or something may be missed.
    pub async fn next(&mut self) -> Change {
        loop {
            let Some(listener) = &mut self.listener else {
                match tokio::time::timeout(CONNECT, connect(&self.url)).await {
                    Ok(Ok(listener)) => {
                        self.listener = Some(listener);
                        return Change::Listening;
                    }
                    Ok(Err(error)) => tracing::debug!(%error, "changes of other hosts cannot be listened for"),
                    Err(_late) => tracing::debug!("changes of other hosts cannot be listened for: no answer"),
                }
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            match tokio::time::timeout(SILENCE, listener.try_recv()).await {
                Ok(Ok(Some(told))) => {
                    if let Some(change) = read(told.payload()) {
                        return change;
                    }
                    tracing::debug!(payload = told.payload(), "a change that this version does not know");
                }
                Ok(_lost) => return self.deaf(),
                Err(_silence) => {
                    let asked = tokio::time::timeout(PATIENCE, listener.execute("SELECT 1")).await;
                    if !matches!(asked, Ok(Ok(_))) {
                        return self.deaf();
                    }
                }
            }
        }
    }

    fn deaf(&mut self) -> Change {
        self.listener = None;
        Change::Deaf
    }
}

async fn connect(url: &str) -> Result<PgListener, sqlx::Error> {
    let mut listener = PgListener::connect(url).await?;
    listener.eager_reconnect(false);
    listener.listen(CHANNEL).await?;
    Ok(listener)
}

fn read(payload: &str) -> Option<Change> {
    match payload.split_once(' ')? {
        ("token", id) => Some(Change::Token(id.to_owned())),
        ("tenant", id) => Some(Change::Tenant(id.to_owned())),
        ("installs", id) => Some(Change::Installs(id.to_owned())),
        ("index", _) => Some(Change::Index),
        ("publishers", _) => Some(Change::Publishers),
        _ => None,
    }
}

/// Tells the others, if the transaction is committed.
pub(in crate::driver) async fn tell(connection: &mut AnyConnection, change: &Change) -> Result<(), StoreError> {
    let payload = match change {
        Change::Token(id) => format!("token {id}"),
        Change::Tenant(id) => format!("tenant {id}"),
        Change::Installs(id) => format!("installs {id}"),
        Change::Index => "index -".to_owned(),
        Change::Publishers => "publishers -".to_owned(),
        Change::Listening | Change::Deaf => return Ok(()),
    };
    sqlx::query("SELECT pg_notify($1, $2)")
        .bind(CHANNEL)
        .bind(payload)
        .execute(connection)
        .await
        .map(drop)
        .map_err(failed("tell other hosts of a change"))
}
