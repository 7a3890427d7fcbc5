//! Logins that serve one tenant alone.

use clawhold_tenancy::TenantId;
use sqlx::{AnyConnection, AnyPool, Connection as _, Row as _};

use super::{first_words, is_address, shown};
use crate::StoreError;
use crate::error::failed;

/// See [`crate::Store::pin`].
pub(crate) async fn pin(owner: &str, login: &str, tenant: &TenantId) -> Result<(), StoreError> {
    let mut at = as_owner(owner).await?;
    let found = sqlx::query("SELECT 1 FROM pg_roles WHERE rolname = $1 AND rolcanlogin")
        .bind(login)
        .fetch_optional(&mut at)
        .await
        .map_err(failed("look for the role"))?;
    if found.is_none() {
        return Err(refuse(
            owner,
            format!("there is no role {login:?} that may log in; `clawhold db init --host-role` makes one"),
        ));
    }
    // A pin of another tenant stays: its host would go on with what it knows of the first.
    let put = "INSERT INTO pinned_logins (login, tenant) VALUES ($1::name, $2) ON CONFLICT (login) DO NOTHING";
    let put = sqlx::query(put).bind(login).bind(tenant.as_str()).execute(&mut at).await;
    put.map_err(|error| refuse(owner, first_words(&error)))?;
    let there = "SELECT tenant FROM pinned_logins WHERE login = $1::name";
    let there = sqlx::query(there).bind(login).fetch_one(&mut at).await.map_err(failed("read the pin"))?;
    let there: String = there.try_get("tenant").map_err(failed("read the pin"))?;
    if there != tenant.as_str() {
        return Err(refuse(
            owner,
            format!("the role {login} is pinned to {there}; stop its host and `clawhold db unpin` it first"),
        ));
    }
    at.close().await.map_err(failed("close the database"))
}

/// See [`crate::Store::unpin`].
pub(crate) async fn unpin(owner: &str, login: &str) -> Result<bool, StoreError> {
    let mut at = as_owner(owner).await?;
    let removed = sqlx::query("DELETE FROM pinned_logins WHERE login = $1::name").bind(login).execute(&mut at).await;
    let removed = removed.map_err(|error| refuse(owner, first_words(&error)))?.rows_affected() > 0;
    at.close().await.map_err(failed("close the database"))?;
    Ok(removed)
}

/// The tenant that this login is pinned to.
pub(crate) async fn pinned(pool: &AnyPool) -> Result<Option<String>, StoreError> {
    let found = sqlx::query("SELECT tenant FROM pinned_logins WHERE login = session_user").fetch_optional(pool).await;
    let found = found.map_err(failed("read the pin"))?;
    found.map(|row| row.try_get("tenant")).transpose().map_err(failed("read the pin"))
}

async fn as_owner(url: &str) -> Result<AnyConnection, StoreError> {
    crate::driver::install_drivers();
    if !is_address(url) {
        return Err(refuse(url, "only a PostgreSQL database has logins".to_owned()));
    }
    AnyConnection::connect(url).await.map_err(|error| refuse(url, first_words(&error)))
}

fn refuse(url: &str, why: String) -> StoreError {
    StoreError::Open { url: shown(url), why }
}
