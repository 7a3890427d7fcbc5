//! A new database with its two roles: one that owns the tables, and one that a host works as.

use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Row as _};

use super::{first_words, is_address, shown};
use crate::StoreError;
use crate::error::failed;

/// The roles and the database of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDatabase {
    /// The database.
    pub database: String,
    /// The role that owns the tables.
    pub owner: String,
    /// Its password, if it is made.
    pub owner_password: String,
    /// The role that a host works as.
    pub host: String,
    /// Its password, if it is made.
    pub host_password: String,
}

/// What was there already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Found {
    /// The owner's role: its password is as it was.
    pub owner: bool,
    /// The host's role: its password is as it was.
    pub host: bool,
    /// The database.
    pub database: bool,
}

/// See [`crate::Store::init`].
pub(crate) async fn init(superuser: &str, new: &NewDatabase) -> Result<Found, StoreError> {
    crate::driver::install_drivers();
    let refuse = |why: String| StoreError::Open { url: shown(superuser), why };
    if !is_address(superuser) {
        return Err(refuse("write the address of a PostgreSQL superuser: `postgres://` and a server".to_owned()));
    }
    for name in [&new.database, &new.owner, &new.host] {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        let fits = (1..=63).contains(&name.len()) && name.bytes().all(plain);
        if !fits || name.as_bytes()[0].is_ascii_digit() || name.starts_with("pg_") {
            return Err(refuse(format!("{name:?} is no name for this; use a to z, 0 to 9 and _, from a letter on")));
        }
    }
    if new.owner == new.host {
        return Err(refuse("the host must not work as the role that owns the tables; give two names".to_owned()));
    }
    for password in [&new.owner_password, &new.host_password] {
        if password.is_empty() || !password.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(refuse("a password here is letters and digits alone".to_owned()));
        }
    }
    let mut at = AnyConnection::connect(superuser).await.map_err(|error| refuse(first_words(&error)))?;
    let found = Found {
        owner: is_there(&mut at, "SELECT 1 FROM pg_roles WHERE rolname = $1", &new.owner).await?,
        host: is_there(&mut at, "SELECT 1 FROM pg_roles WHERE rolname = $1", &new.host).await?,
        database: is_there(&mut at, "SELECT 1 FROM pg_database WHERE datname = $1", &new.database).await?,
    };
    let NewDatabase { database, owner, owner_password, host, host_password } = new;
    let roles = "NOSUPERUSER NOBYPASSRLS NOCREATEDB";
    let mut statements = vec![
        "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'clawhold_app') THEN \
         CREATE ROLE clawhold_app NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE; END IF; END $$"
            .to_owned(),
    ];
    if !found.owner {
        statements.push(format!("CREATE ROLE {owner} LOGIN CREATEROLE {roles} PASSWORD '{owner_password}'"));
    }
    if !found.host {
        statements.push(format!(
            "CREATE ROLE {host} LOGIN NOCREATEROLE {roles} PASSWORD '{host_password}' IN ROLE clawhold_app"
        ));
    }
    if !found.database {
        statements.push(format!("CREATE DATABASE {database} OWNER {owner}"));
        statements.push(format!("REVOKE ALL ON DATABASE {database} FROM PUBLIC"));
    }
    statements.push(format!("GRANT CONNECT ON DATABASE {database} TO {host}"));
    for statement in statements {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut at).await.map_err(|error| refuse(first_words(&error)))?;
    }
    at.close().await.map_err(failed("close the database"))?;
    Ok(found)
}

async fn is_there(at: &mut AnyConnection, query: &'static str, name: &str) -> Result<bool, StoreError> {
    let found = sqlx::query(query).bind(name).fetch_optional(at).await.map_err(failed("look at the server"))?;
    Ok(found.is_some_and(|row| !row.is_empty()))
}
