//! PostgreSQL, 15 or later: roles and row-level security.
//!
//! Three roles: whoever migrates owns the tables; `clawhold_app` is what a host works as, through a login role that is its
//! member; `clawhold_purge` removes what a tenant leaves behind. The host refuses to work as a role that the policies do not
//! hold for.

mod init;
mod listen;
mod partitions;
mod pin;

use sqlx::any::AnyPoolOptions;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AnyConnection, AnyPool, AssertSqlSafe, Connection as _, Row as _, SqlSafeStr as _};

use super::{Judgement, Kind, Pools, WAIT};
use crate::StoreError;
use crate::error::failed;

/// All of it as it stood at the first query, and nothing written whatever a query says.
pub(super) const BEGIN_READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";

/// What `open` wants to find: as many migrations as there are.
const MIGRATIONS: [(i64, &str, &str); 23] = [
    (1, "tables", include_str!("../../migrations/0001_tables.sql")),
    (2, "row-level security", include_str!("../../migrations/postgres/0002_row_level_security.sql")),
    (3, "keys, starts and answers", include_str!("../../migrations/0003_keys_starts_answers.sql")),
    (4, "partitions", include_str!("../../migrations/postgres/0004_partitions.sql")),
    (5, "pinned logins", include_str!("../../migrations/postgres/0005_pinned_logins.sql")),
    (6, "keys under way", include_str!("../../migrations/postgres/0006_keys_under_way.sql")),
    (7, "quotas", include_str!("../../migrations/0007_quotas.sql")),
    (8, "usage", include_str!("../../migrations/postgres/0008_usage.sql")),
    (9, "leaks", include_str!("../../migrations/0009_leaks.sql")),
    (10, "secret versions", include_str!("../../migrations/0010_secret_versions.sql")),
    (11, "policies of secret versions", include_str!("../../migrations/postgres/0011_secret_versions.sql")),
    (12, "secret claims", include_str!("../../migrations/0012_secret_claims.sql")),
    (13, "policies of secret claims", include_str!("../../migrations/postgres/0013_secret_claims.sql")),
    (14, "market", include_str!("../../migrations/0014_market.sql")),
    (15, "policies of the market", include_str!("../../migrations/postgres/0015_market.sql")),
    (16, "oci", include_str!("../../migrations/0016_oci.sql")),
    (17, "policies of oci", include_str!("../../migrations/postgres/0017_oci.sql")),
    (18, "marks of the marketplace", include_str!("../../migrations/0018_market_marks.sql")),
    (19, "policies of marks", include_str!("../../migrations/postgres/0019_market_marks.sql")),
    (20, "market tellings", include_str!("../../migrations/0020_market_tellings.sql")),
    (21, "policies of market tellings", include_str!("../../migrations/postgres/0021_market_tellings.sql")),
    (22, "deleted packages", include_str!("../../migrations/0022_deleted_packages.sql")),
    (23, "policies of packages", include_str!("../../migrations/postgres/0023_packages.sql")),
];

pub(crate) use init::init;
pub use init::{Found, NewDatabase};
pub(super) use listen::tell;
pub use listen::{Change, Changes};
pub use partitions::Kept;
pub(crate) use partitions::keep_partitions;
pub(crate) use pin::{pin, pinned, unpin};

pub(super) fn is_address(url: &str) -> bool {
    url.starts_with("postgres:") || url.starts_with("postgresql:")
}

/// The address without its password, which may stand before the server or among the parameters, to be shown.
pub(super) fn shown(url: &str) -> String {
    // One that reads in two ways is not shown at all: where the password ends is what is unclear.
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_:[]".contains(&b));
    let Some((scheme, rest)) =
        url.split_once("://").filter(|(scheme, _)| scheme.bytes().all(|b| b.is_ascii_alphabetic()))
    else {
        return "(an address)".to_owned();
    };
    let (user, server) = rest.rsplit_once('@').map_or(("", rest), |(user, server)| (user, server));
    let (server, path) = server.split_once('/').unwrap_or((server, ""));
    let path = path.split('?').next().unwrap_or_default();
    let is_clear = !user.contains(['/', '?', '#']) && plain(server) && plain(path);
    // Without an `@` a name and a password look like a server and its port.
    let is_server = server.rsplit_once(':').is_none_or(|(_, port)| port.ends_with(']') || port.parse::<u16>().is_ok());
    match (is_clear && is_server, user.is_empty()) {
        (false, _) => format!("{scheme}://…"),
        (true, true) => format!("{scheme}://{server}/{path}"),
        (true, false) => format!("{scheme}://…@{server}/{path}"),
    }
}

pub(super) async fn open(url: &str, connections: u32) -> Result<Pools, StoreError> {
    let refuse = |why: String| StoreError::Open { url: shown(url), why };
    // By hand first: a pool tries again for as long as it may wait, and then says only that.
    let mut first = AnyConnection::connect(url).await.map_err(|error| refuse(first_words(&error)))?;
    let fit = is_fit(&mut first).await.map_err(failed("look at the database"))?;
    first.close().await.map_err(failed("look at the database"))?;
    fit.map_err(refuse)?;
    let url = url.to_owned();
    Ok(Pools { kind: Kind::Postgres, read: pool(&url, connections).await?, write: pool(&url, connections).await?, url })
}

/// Whether this role may work here, and the tables are those of this program. If not, what mends it.
async fn is_fit(connection: &mut AnyConnection) -> Result<Result<(), String>, sqlx::Error> {
    let role = "SELECT current_user::text AS name, (SELECT count(*) FROM pg_roles other WHERE (other.rolsuper OR other.rolbypassrls) \
                 AND (pg_has_role(current_user, other.oid, 'MEMBER') OR pg_has_role(session_user, other.oid, 'MEMBER'))) AS above, \
                current_setting('server_version_num')::bigint AS version, \
                (SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'p') AND relname IN ('tenants', 'audit') \
                 AND pg_has_role(current_user, relowner, 'MEMBER')) AS owned, \
                (SELECT count(*) FROM pg_roles app WHERE app.rolname = 'clawhold_app' \
                 AND pg_has_role(current_user, app.oid, 'MEMBER')) AS member, \
                (SELECT count(*) FROM pg_roles pinned WHERE pinned.rolname = 'clawhold_pinned' \
                 AND pg_has_role(current_user, pinned.oid, 'MEMBER')) AS pinned, \
                (to_regclass('_sqlx_migrations') IS NOT NULL)::int::bigint AS migrated \
                FROM pg_roles WHERE rolname = current_user";
    let row = sqlx::query(role).fetch_one(&mut *connection).await?;
    let name: String = row.try_get("name")?;
    let fact = |column: &str| row.try_get::<i64, _>(column);
    if fact("version")? < 150_000 {
        return Ok(Err("the server is older than PostgreSQL 15; use a newer one".to_owned()));
    }
    if fact("above")? > 0 {
        return Ok(Err(format!(
            "the role {name} is a superuser or has BYPASSRLS, or may become such a role, for which row-level security does not hold; make one without: \
             CREATE ROLE clawhold LOGIN PASSWORD '…' IN ROLE clawhold_app"
        )));
    }
    if fact("owned")? > 0 {
        return Ok(Err(format!(
            "the role {name} owns the tables, and could switch row-level security off; work as another: \
             CREATE ROLE clawhold LOGIN PASSWORD '…' IN ROLE clawhold_app"
        )));
    }
    if fact("migrated")? == 0 {
        return Ok(Err("it has no tables yet; run `clawhold db migrate` as their owner".to_owned()));
    }
    match (fact("member")?, fact("pinned")?) {
        (0, 0) => {
            return Ok(Err(format!("the role {name} may not use the tables; GRANT clawhold_app TO {name}")));
        }
        (1.., 1..) => {
            return Ok(Err(format!(
                "the role {name} is pinned to a tenant and could get rid of that; REVOKE clawhold_app FROM {name}"
            )));
        }
        _ => {}
    }
    let row = sqlx::query("SELECT coalesce(max(version), 0) AS version FROM _sqlx_migrations WHERE success")
        .fetch_one(connection)
        .await?;
    let (there, wanted) = (row.try_get::<i64, _>("version")?, MIGRATIONS[MIGRATIONS.len() - 1].0);
    Ok(match there.cmp(&wanted) {
        std::cmp::Ordering::Less => Err(format!(
            "its tables are of version {there}, and this program needs {wanted}; run `clawhold db migrate` as their owner"
        )),
        std::cmp::Ordering::Greater => Err(format!(
            "its tables are of version {there}, newer than this program knows ({wanted}); use a newer program"
        )),
        std::cmp::Ordering::Equal => Ok(()),
    })
}

/// Makes the roles and the tables, or brings them up to date. As the role that is to own the tables.
pub(crate) async fn migrate(url: &str) -> Result<(), StoreError> {
    super::install_drivers();
    let refuse = |why: String| StoreError::Open { url: shown(url), why };
    if !is_address(url) {
        return Err(refuse(
            "only a PostgreSQL database is migrated by hand; write `postgres://` and a server".to_owned(),
        ));
    }
    let mut owner = AnyConnection::connect(url).await.map_err(|error| refuse(first_words(&error)))?;
    let migrations = MIGRATIONS
        .into_iter()
        .map(|(number, name, text)| {
            // Bytewise order, as SQLite has it: lists go on where the last page ended on either.
            let text = text.replace(" BYTES", " BYTEA").replace(" TEXT", " TEXT COLLATE \"C\"");
            let text = AssertSqlSafe(text).into_sql_str();
            Migration::new(number, name.into(), MigrationType::Simple, text, false)
        })
        .collect();
    let migrated = Migrator::with_migrations(migrations).run(&mut owner).await;
    migrated.map_err(|error| refuse(format!("its tables cannot be brought up to date: {error}")))?;
    partitions::make(&mut owner).await?;
    // What the host looks at when it starts.
    sqlx::raw_sql("GRANT SELECT ON _sqlx_migrations TO clawhold_app, clawhold_pinned")
        .execute(&mut owner)
        .await
        .map_err(failed("grant the list of migrations"))?;
    owner.close().await.map_err(failed("close the database"))
}

/// For this transaction alone: a setting of the session would reach the connection's next user.
pub(super) async fn bind(connection: &mut AnyConnection, bound: &str) -> Result<(), StoreError> {
    sqlx::query("SELECT set_config('app.tenant_id', $1, true)")
        .bind(bound)
        .execute(connection)
        .await
        .map(drop)
        .map_err(failed("bind a transaction to its tenant"))
}

/// SQLSTATE, <https://www.postgresql.org/docs/15/errcodes-appendix.html>: the first two characters are a class.
pub(super) fn judge(error: &dyn sqlx::error::DatabaseError) -> Judgement {
    let code = error.code().unwrap_or_default();
    match (code.get(..2), &*code) {
        // Lost connections, not enough resources, an operator's intervention, trouble with the system, conflicts of
        // transactions, a lock that is not available, a standby that only reads.
        (Some("08" | "53" | "57" | "58" | "40"), _) | (_, "55P03" | "25006") => Judgement::Retryable,
        (Some("XX"), "XX001" | "XX002") => Judgement::Corrupt,
        _ => Judgement::Other,
    }
}

async fn pool(url: &str, connections: u32) -> Result<AnyPool, StoreError> {
    AnyPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(WAIT)
        .connect(url)
        .await
        .map_err(failed("open the database"))
}

/// What an error says, without the address that it may repeat.
fn first_words(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Configuration(_) => {
            "the address cannot be read; write postgres://user:password@server:5432/database".to_owned()
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_password() {
        assert_eq!(shown("postgres://app:p@ss@db.example.com/x"), "postgres://…@db.example.com/x");
        assert_eq!(shown("postgresql://127.0.0.1:5432/x"), "postgresql://127.0.0.1:5432/x");
        assert_eq!(shown("postgres://db.example.com/x?user=a&password=secret"), "postgres://db.example.com/x");
        // What reads in two ways is not shown.
        for unclear in
            ["postgres://db.example.com/x?user=a&password=secret@x", "postgres://app:secret", "postgres://a:s/t@db/x"]
        {
            assert_eq!(shown(unclear), "postgres://…", "{unclear}");
        }
        assert_eq!(shown("app:secret@db.example.com/x"), "(an address)");
    }
}
