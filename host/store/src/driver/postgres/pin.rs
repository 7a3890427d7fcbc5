//! Logins that serve one tenant alone.

use clawhold_tenancy::TenantId;
use sqlx::{AnyConnection, AnyPool, AssertSqlSafe, Connection as _, Row as _};

use super::{first_words, is_address, shown};
use crate::StoreError;
use crate::error::failed;

/// See [`crate::Store::pin`].
pub(crate) async fn pin(superuser: &str, login: &str, tenant: &TenantId) -> Result<(), StoreError> {
    let mut at = connect(superuser).await?;
    let refuse = |why: String| refuse(superuser, why);
    let there = "SELECT quote_ident(rolname) AS quoted, (SELECT tenant FROM pinned_logins WHERE login = rolname) AS tenant \
                 FROM pg_roles WHERE rolname = $1 AND rolcanlogin";
    let there = sqlx::query(there).bind(login).fetch_optional(&mut at).await;
    let there = there.map_err(|error| refuse(first_words(&error)))?.ok_or_else(|| {
        refuse(format!("there is no role {login:?} that may log in; `clawhold db init --host-role` makes one"))
    })?;
    let tenant_there: Option<String> = there.try_get("tenant").map_err(failed("read the pin"))?;
    // A host that is up would go on with what it knows of the first.
    if let Some(other) = tenant_there.filter(|other| other != tenant.as_str()) {
        return Err(refuse(format!(
            "the role {login} is pinned to {other}; stop its host and `clawhold db unpin` it first"
        )));
    }
    let quoted: String = there.try_get("quoted").map_err(failed("read the role"))?;
    let mut tx = at.begin().await.map_err(failed("begin to pin"))?;
    let put = "INSERT INTO pinned_logins (login, tenant) VALUES ($1::name, $2) ON CONFLICT (login) DO NOTHING";
    let put = sqlx::query(put).bind(login).bind(tenant.as_str()).execute(&mut *tx).await;
    put.map_err(|error| refuse(first_words(&error)))?;
    move_to(&mut tx, &quoted, "clawhold_app", "clawhold_pinned").await.map_err(|error| refuse(first_words(&error)))?;
    let more = "SELECT coalesce(string_agg(quote_ident(r.rolname), ', '), '') AS roles FROM pg_roles r \
                WHERE r.rolname NOT IN ($1::name, 'clawhold_pinned') AND pg_has_role($1::name, r.oid, 'MEMBER')";
    let more = sqlx::query(more).bind(login).fetch_one(&mut *tx).await.map_err(failed("read the memberships"))?;
    let more: String = more.try_get("roles").map_err(failed("read the memberships"))?;
    if !more.is_empty() {
        return Err(refuse(format!("the role {login} may become {more}, and be rid of its pin; REVOKE that first")));
    }
    tx.commit().await.map_err(failed("pin a login"))?;
    end_sessions(&mut at, login).await?;
    at.close().await.map_err(failed("close the database"))
}

/// See [`crate::Store::unpin`].
pub(crate) async fn unpin(superuser: &str, login: &str) -> Result<bool, StoreError> {
    let mut at = connect(superuser).await?;
    let refuse = |why: String| refuse(superuser, why);
    let mut tx = at.begin().await.map_err(failed("begin to unpin"))?;
    let removed = "DELETE FROM pinned_logins WHERE login = $1::name RETURNING quote_ident(login) AS quoted";
    let removed = sqlx::query(removed).bind(login).fetch_optional(&mut *tx).await;
    let removed = removed.map_err(|error| refuse(first_words(&error)))?;
    if let Some(row) = &removed {
        let quoted: String = row.try_get("quoted").map_err(failed("read the role"))?;
        let moved = move_to(&mut tx, &quoted, "clawhold_pinned", "clawhold_app").await;
        moved.map_err(|error| refuse(first_words(&error)))?;
    }
    tx.commit().await.map_err(failed("unpin a login"))?;
    end_sessions(&mut at, login).await?;
    at.close().await.map_err(failed("close the database"))?;
    Ok(removed.is_some())
}

/// `login` as the database quotes it: roles cannot be parameters.
async fn move_to(at: &mut AnyConnection, login: &str, from: &str, to: &str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(format!("REVOKE {from} FROM {login}; GRANT {to} TO {login}")))
        .execute(at)
        .await
        .map(drop)
}

/// A session goes on with the policies that its prepared statements were planned with.
async fn end_sessions(at: &mut AnyConnection, login: &str) -> Result<(), StoreError> {
    let end = "SELECT count(pg_terminate_backend(pid)) AS ended FROM pg_stat_activity WHERE usename = $1::name AND pid <> pg_backend_pid()";
    sqlx::query(end).bind(login).execute(at).await.map(drop).map_err(failed("end the sessions of a login"))
}

/// The tenant that this login is pinned to.
pub(crate) async fn pinned(pool: &AnyPool) -> Result<Option<String>, StoreError> {
    let found = sqlx::query("SELECT tenant FROM pinned_logins WHERE login = session_user").fetch_optional(pool).await;
    found.map_err(failed("read the pin"))?.map(|row| row.try_get("tenant")).transpose().map_err(failed("read the pin"))
}

async fn connect(url: &str) -> Result<AnyConnection, StoreError> {
    crate::driver::install_drivers();
    if !is_address(url) {
        return Err(refuse(url, "only a PostgreSQL database has logins".to_owned()));
    }
    AnyConnection::connect(url).await.map_err(|error| refuse(url, first_words(&error)))
}

fn refuse(url: &str, why: String) -> StoreError {
    StoreError::Open { url: shown(url), why }
}
