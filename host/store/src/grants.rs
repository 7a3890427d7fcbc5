//! Publishers, and which tenants may see and install what they publish.

use clawhold_tenancy::{PackageName, Publisher, TenantId};
use sqlx::any::AnyRow;

use crate::driver::{self, Change};
use crate::error::failed;
use crate::fields::Fields;
use crate::{StoreError, SystemTx, Write};

/// Who may publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublisherRow {
    /// The name that its packages begin with.
    pub name: Publisher,
    /// The tenant whose own it is, if it is one's.
    pub owner: Option<TenantId>,
    /// Its keys: JSON, in the marketplace's form.
    pub keys: String,
    /// Microseconds since 1970.
    pub created_us: i64,
    /// Who registered it.
    pub created_by: String,
    /// What authenticates the row.
    pub mac: String,
}

/// That somebody may see and install versions of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantRow {
    /// The package.
    pub package: PackageName,
    /// `tenant:` or `tier:` and a name.
    pub grantee: String,
    /// Which versions, in the marketplace's form.
    pub range: String,
    /// Microseconds since 1970.
    pub created_us: i64,
    /// Who granted it.
    pub created_by: String,
    /// What authenticates the row.
    pub mac: String,
}

impl<M> SystemTx<M> {
    /// One publisher.
    pub async fn publisher(&mut self, name: &Publisher) -> Result<Option<PublisherRow>, StoreError> {
        sqlx::query("SELECT * FROM publishers WHERE name = $1")
            .bind(name.as_str())
            .fetch_optional(&mut *self.tx)
            .await
            .map_err(failed("read a publisher"))?
            .as_ref()
            .map(publisher)
            .transpose()
    }

    /// Publishers behind `after`, by name, at most `limit`.
    pub async fn publishers(&mut self, after: Option<&Publisher>, limit: u32) -> Result<Vec<PublisherRow>, StoreError> {
        sqlx::query("SELECT * FROM publishers WHERE name > $1 ORDER BY name LIMIT $2")
            .bind(after.map_or("", Publisher::as_str))
            .bind(i64::from(limit))
            .fetch_all(&mut *self.tx)
            .await
            .map_err(failed("list publishers"))?
            .iter()
            .map(publisher)
            .collect()
    }

    /// A tenant's own publishers, by name, at most `limit`.
    pub async fn publishers_of(&mut self, owner: &TenantId, limit: u32) -> Result<Vec<PublisherRow>, StoreError> {
        sqlx::query("SELECT * FROM publishers WHERE owner = $1 ORDER BY name LIMIT $2")
            .bind(owner.as_str())
            .bind(i64::from(limit))
            .fetch_all(&mut *self.tx)
            .await
            .map_err(failed("list a tenant's publishers"))?
            .iter()
            .map(publisher)
            .collect()
    }

    /// Names of all packages, of one publisher or of all.
    pub async fn package_names(&mut self) -> Result<Vec<PackageName>, StoreError> {
        sqlx::query("SELECT name FROM packages ORDER BY name")
            .fetch_all(&mut *self.tx)
            .await
            .map_err(failed("read the names of packages"))?
            .iter()
            .map(|row| Fields::of("packages", row).id("name"))
            .collect()
    }

    /// What is granted of a package, by grantee.
    pub async fn grants_of(&mut self, package: &PackageName) -> Result<Vec<GrantRow>, StoreError> {
        sqlx::query("SELECT * FROM grants WHERE package = $1 ORDER BY grantee")
            .bind(package.as_str())
            .fetch_all(&mut *self.tx)
            .await
            .map_err(failed("list a package's grants"))?
            .iter()
            .map(grant)
            .collect()
    }

    /// What is granted to a tenant or to its tier, of packages from one to another.
    pub async fn granted_between(
        &mut self,
        tenant: &TenantId,
        tier: &str,
        from: &PackageName,
        to: &PackageName,
    ) -> Result<Vec<GrantRow>, StoreError> {
        sqlx::query("SELECT * FROM grants WHERE grantee IN ($1, $2) AND package >= $3 AND package <= $4")
            .bind(format!("tenant:{tenant}"))
            .bind(format!("tier:{tier}"))
            .bind(from.as_str())
            .bind(to.as_str())
            .fetch_all(&mut *self.tx)
            .await
            .map_err(failed("list what is granted to a tenant"))?
            .iter()
            .map(grant)
            .collect()
    }

    /// What is granted of one package to a tenant or to its tier.
    pub async fn granted_of(
        &mut self,
        tenant: &TenantId,
        tier: &str,
        package: &PackageName,
    ) -> Result<Vec<GrantRow>, StoreError> {
        sqlx::query("SELECT * FROM grants WHERE grantee IN ($1, $2) AND package = $3")
            .bind(format!("tenant:{tenant}"))
            .bind(format!("tier:{tier}"))
            .bind(package.as_str())
            .fetch_all(&mut *self.tx)
            .await
            .map_err(failed("read what is granted of a package"))?
            .iter()
            .map(grant)
            .collect()
    }
}

impl SystemTx<Write> {
    /// Registers a publisher; `false` if there is one of this name.
    pub async fn add_publisher(&mut self, new: &PublisherRow) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "INSERT INTO publishers (name, owner, keys, created_us, created_by, mac) VALUES ($1, $2, $3, $4, $5, $6) \
             ON CONFLICT (name) DO NOTHING",
        )
        .bind(new.name.as_str())
        .bind(new.owner.as_ref().map(TenantId::as_str))
        .bind(new.keys.as_str())
        .bind(new.created_us)
        .bind(new.created_by.as_str())
        .bind(new.mac.as_str())
        .execute(&mut *self.tx)
        .await
        .map_err(failed("register a publisher"))?;
        Ok(done.rows_affected() > 0)
    }

    /// Puts other keys in place of these; `false` if they are not those any more.
    pub async fn set_publisher_keys(&mut self, new: &PublisherRow, old: &str) -> Result<bool, StoreError> {
        let done = sqlx::query("UPDATE publishers SET keys = $3, mac = $4 WHERE name = $1 AND keys = $2")
            .bind(new.name.as_str())
            .bind(old)
            .bind(new.keys.as_str())
            .bind(new.mac.as_str())
            .execute(&mut *self.tx)
            .await
            .map_err(failed("change a publisher's keys"))?;
        driver::tell(&mut self.tx, &Change::Publishers).await?;
        Ok(done.rows_affected() > 0)
    }

    /// Grants, or grants other versions than before.
    pub async fn put_grant(&mut self, grant: &GrantRow) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO grants (grantee, package, range, created_us, created_by, mac) VALUES ($1, $2, $3, $4, $5, $6) \
             ON CONFLICT (grantee, package) DO UPDATE SET range = excluded.range, created_us = excluded.created_us, \
             created_by = excluded.created_by, mac = excluded.mac",
        )
        .bind(grant.grantee.as_str())
        .bind(grant.package.as_str())
        .bind(grant.range.as_str())
        .bind(grant.created_us)
        .bind(grant.created_by.as_str())
        .bind(grant.mac.as_str())
        .execute(&mut *self.tx)
        .await
        .map(drop)
        .map_err(failed("grant a package"))
    }

    /// Takes a grant back; `false` if there is none.
    pub async fn remove_grant(&mut self, package: &PackageName, grantee: &str) -> Result<bool, StoreError> {
        let done = sqlx::query("DELETE FROM grants WHERE package = $1 AND grantee = $2")
            .bind(package.as_str())
            .bind(grantee)
            .execute(&mut *self.tx)
            .await
            .map_err(failed("take a grant back"))?;
        Ok(done.rows_affected() > 0)
    }
}

fn publisher(row: &AnyRow) -> Result<PublisherRow, StoreError> {
    let fields = Fields::of("publishers", row);
    Ok(PublisherRow {
        name: fields.id("name")?,
        owner: fields.optional_id("owner")?,
        keys: fields.text("keys")?,
        created_us: fields.integer("created_us")?,
        created_by: fields.text("created_by")?,
        mac: fields.text("mac")?,
    })
}

fn grant(row: &AnyRow) -> Result<GrantRow, StoreError> {
    let fields = Fields::of("grants", row);
    Ok(GrantRow {
        package: fields.id("package")?,
        grantee: fields.text("grantee")?,
        range: fields.text("range")?,
        created_us: fields.integer("created_us")?,
        created_by: fields.text("created_by")?,
        mac: fields.text("mac")?,
    })
}
