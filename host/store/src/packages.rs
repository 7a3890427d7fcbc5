//! Published packages: what the marketplace holds, the same for every tenant. A version, once published, is final.

use std::fmt::Write as _;

use clawhold_tenancy::manifest::Manifest;
use clawhold_tenancy::{Digest, PackageName, Publisher, TenantId};
use semver::Version as Number;
use sqlx::any::AnyRow;
use sqlx::query::Query;
use sqlx::{AnyConnection, AssertSqlSafe};

use crate::error::failed;
use crate::fields::{Fields, integer, json};
use crate::{Conflict, StoreError, SystemTx, TenantTx, Write};

/// A package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// `publisher/name`.
    pub name: PackageName,
    /// When its first version was published, in microseconds since 1970.
    pub created_us: i64,
    /// The version that lists show: empty if there is none yet.
    pub newest: String,
    /// What that says of itself: JSON, in the caller's form.
    pub about: String,
    /// What authenticates the two.
    pub mac: String,
}

/// Whose packages are listed.
#[derive(Debug, Clone, Copy)]
pub enum Listed<'a> {
    /// Everybody's.
    All,
    /// One publisher's.
    Of(&'a Publisher),
}

/// What lists show of a package.
#[derive(Debug, Clone)]
pub struct Shown {
    /// The version.
    pub newest: Number,
    /// What it says of itself: JSON.
    pub about: String,
    /// All of its words in lower case.
    pub words: String,
    /// What authenticates version and summary.
    pub mac: String,
}

/// A version to be published.
#[derive(Debug, Clone)]
pub struct Publication {
    /// What it is, with the package's name and the version's number.
    pub manifest: Manifest,
    /// What its skills are: JSON, as the component gave it.
    pub descriptors: String,
    /// Microseconds since 1970.
    pub published_us: i64,
    /// Who did it.
    pub published_by: String,
    /// The publisher's signature, if there is one: an envelope in the marketplace's form.
    pub signature: Option<String>,
    /// What authenticates all of this, by whoever publishes it.
    pub mac: String,
}

/// What publishing came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// It is a new version.
    New(Digest),
    /// The very same was published before; nothing was changed.
    Identical(Digest),
}

/// A published version.
#[derive(Debug, Clone)]
pub struct Version {
    /// Its place in the order of publication, which lists go by.
    pub number: i64,
    /// The component.
    pub digest: Digest,
    /// The component's size in bytes.
    pub size: u64,
    /// What was published.
    pub published: Publication,
    /// What becomes of it, in the marketplace's word.
    pub status: String,
    /// Why, for those who have it installed.
    pub advisory: String,
    /// When that was decided, in microseconds since 1970.
    pub changed_us: i64,
    /// What authenticates status, time and advisory.
    pub advisory_mac: String,
}

/// What is read of a version.
const COLUMNS: &str = "number, digest, size, manifest, descriptors, published_us, published_by, signature, mac, status, \
                       advisory, changed_us, advisory_mac";

impl<M> SystemTx<M> {
    /// Packages behind `after`, by name, at most `limit`, that have all of these words, which are in lower case.
    pub async fn packages(
        &mut self,
        listed: Listed<'_>,
        words: &[String],
        after: Option<&PackageName>,
        limit: u32,
    ) -> Result<Vec<Package>, StoreError> {
        let mut select =
            "SELECT name, created_us, newest, about, mac FROM packages WHERE deleted_us IS NULL AND name > $1"
                .to_owned();
        let mut bound = vec![after.map_or_else(String::new, ToString::to_string)];
        let mut place = |value: String| {
            bound.push(value);
            format!("${}", bound.len())
        };
        match listed {
            Listed::All => {}
            Listed::Of(publisher) => {
                // Behind a slash comes what sorts before `0`.
                let (from, to) = (place(format!("{publisher}/")), place(format!("{publisher}0")));
                let _strings_take_all = write!(select, " AND name > {from} AND name < {to}");
            }
        }
        for word in words {
            let escaped = word.replace('!', "!!").replace('%', "!%").replace('_', "!_");
            let like = place(format!("%{escaped}%"));
            let _strings_take_all = write!(select, " AND words LIKE {like} ESCAPE '!'");
        }
        let _strings_take_all = write!(select, " ORDER BY name LIMIT {limit}");
        let query = bound.into_iter().fold(sqlx::query(AssertSqlSafe(select)), Query::bind);
        query.fetch_all(&mut *self.tx).await.map_err(failed("list packages"))?.iter().map(package).collect()
    }

    /// Packages behind `after` that a tenant may see, which is in this tier, by name: granted to it or its tier, or its own. With them where the
    /// next page begins, after at most `limit` names, if there may be more.
    pub async fn packages_for(
        &mut self,
        tenant: &TenantId,
        tier: &str,
        after: Option<&PackageName>,
        limit: u32,
    ) -> Result<(Vec<Package>, Option<PackageName>), StoreError> {
        // The names first, and no more than a page of them: PostgreSQL takes a tenant for the owner of a ninth of all packages, and would read
        // them all. A page of what is its own is not cut off before it is sorted, or it would look for them in the order of all packages' names.
        let query = format!(
            "SELECT seen.name AS name, created_us, newest, about, mac FROM (\
             SELECT * FROM (SELECT package AS name FROM grants WHERE grantee = $2 AND package > $1 ORDER BY package LIMIT {limit}) AS itself \
             UNION \
             SELECT * FROM (SELECT package AS name FROM grants WHERE grantee = $3 AND package > $1 ORDER BY package LIMIT {limit}) AS tier \
             UNION \
             SELECT packages.name FROM publishers JOIN packages ON packages.name > publishers.name || '/' \
             AND packages.name < publishers.name || '0' WHERE publishers.owner = $4 AND packages.name > $1 AND deleted_us IS NULL \
             ORDER BY name LIMIT {limit}) AS seen \
             LEFT JOIN packages ON packages.name = seen.name AND packages.deleted_us IS NULL ORDER BY seen.name"
        );
        let rows = sqlx::query(AssertSqlSafe(query))
            .bind(after.map_or("", PackageName::as_str))
            .bind(format!("tenant:{tenant}"))
            .bind(format!("tier:{tier}"))
            .bind(tenant.as_str())
            .fetch_all(&mut *self.tx)
            .await
            .map_err(failed("list what a tenant sees"))?;
        let next = match rows.last() {
            Some(last) if rows.len() == limit as usize => Some(Fields::of("packages", last).id("name")?),
            _ => None,
        };
        let mut packages = Vec::with_capacity(rows.len());
        for row in &rows {
            // What is granted and is not there, or no longer, takes a place on the page and is not shown.
            if Fields::of("packages", row).optional::<i64>("created_us")?.is_some() {
                packages.push(package(row)?);
            }
        }
        Ok((packages, next))
    }

    /// When a package was deleted, in microseconds since 1970, if it was.
    pub async fn deleted_us(&mut self, package: &PackageName) -> Result<Option<i64>, StoreError> {
        let row = sqlx::query("SELECT deleted_us FROM packages WHERE name = $1")
            .bind(package.as_str())
            .fetch_optional(&mut *self.tx)
            .await
            .map_err(failed("read whether a package was deleted"))?;
        row.map_or(Ok(None), |row| Fields::of("packages", &row).optional("deleted_us"))
    }

    /// One version.
    pub async fn version(&mut self, package: &PackageName, version: &Number) -> Result<Option<Version>, StoreError> {
        sqlx::query(AssertSqlSafe(format!("SELECT {COLUMNS} FROM versions WHERE package = $1 AND version = $2")))
            .bind(package.as_str())
            .bind(version.to_string())
            .fetch_optional(&mut *self.tx)
            .await
            .map_err(failed("read a package version"))?
            .as_ref()
            .map(parse)
            .transpose()
    }

    /// The highest version by semantic versioning; a pre-release only if there is nothing else.
    pub async fn latest_version(&mut self, package: &PackageName) -> Result<Option<Version>, StoreError> {
        let rows = sqlx::query("SELECT version FROM versions WHERE package = $1")
            .bind(package.as_str())
            .fetch_all(&mut *self.tx)
            .await
            .map_err(failed("list a package's versions"))?;
        let numbers = rows.iter().map(|row| Fields::of("versions", row).id::<Number>("version"));
        let numbers = numbers.collect::<Result<Vec<_>, _>>()?;
        match numbers.iter().max_by_key(|number| (number.pre.is_empty(), *number)) {
            Some(latest) => self.version(package, latest).await,
            None => Ok(None),
        }
    }

    /// A package's versions published before number `before`, newest first, at most `limit`.
    pub async fn versions(
        &mut self,
        package: &PackageName,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Version>, StoreError> {
        sqlx::query(AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM versions WHERE package = $1 AND number < $2 ORDER BY number DESC LIMIT $3"
        )))
        .bind(package.as_str())
        .bind(before.unwrap_or(i64::MAX))
        .bind(i64::from(limit))
        .fetch_all(&mut *self.tx)
        .await
        .map_err(failed("list a package's versions"))?
        .iter()
        .map(parse)
        .collect()
    }

    /// The component itself. [`StoreError::Corrupt`] if its bytes are not those that the digest names.
    pub async fn component(&mut self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        component(&mut self.tx, digest).await
    }
}

impl<M> TenantTx<M> {
    /// The same, for a tenant that has it installed: a login that is pinned to the tenant sees only here what is granted no more.
    pub async fn component(&mut self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        component(&mut self.tx, digest).await
    }
}

impl SystemTx<Write> {
    /// Says what lists show of a package.
    pub async fn show_in_lists(&mut self, package: &PackageName, shown: &Shown) -> Result<(), StoreError> {
        sqlx::query("UPDATE packages SET newest = $2, about = $3, words = $4, mac = $5 WHERE name = $1")
            .bind(package.as_str())
            .bind(shown.newest.to_string())
            .bind(shown.about.as_str())
            .bind(shown.words.as_str())
            .bind(shown.mac.as_str())
            .execute(&mut *self.tx)
            .await
            .map(drop)
            .map_err(failed("say what lists show of a package"))
    }

    /// Deletes a package for good, with what is granted of it: its name stays taken. `false` if there is none, or it was deleted before.
    pub async fn delete_package(&mut self, package: &PackageName, now_us: i64) -> Result<bool, StoreError> {
        let done = sqlx::query("UPDATE packages SET deleted_us = $2 WHERE name = $1 AND deleted_us IS NULL")
            .bind(package.as_str())
            .bind(now_us)
            .execute(&mut *self.tx)
            .await
            .map_err(failed("delete a package"))?;
        sqlx::query("DELETE FROM grants WHERE package = $1")
            .bind(package.as_str())
            .execute(&mut *self.tx)
            .await
            .map_err(failed("take the grants of a package back"))?;
        Ok(done.rows_affected() > 0)
    }

    /// Publishes a version under this counter of the index, which is locked. The same once more is fine; the same number with another component is
    /// [`Conflict::Version`].
    pub async fn publish(
        &mut self,
        publication: &Publication,
        component: &[u8],
        counter: i64,
    ) -> Result<Published, StoreError> {
        let package = &publication.manifest.package.name;
        let version = &publication.manifest.package.version;
        let digest = Digest::of(component);
        // Takes the package's lock on either database, so that what is read next stays true.
        let row = sqlx::query(
            "INSERT INTO packages (name, created_us, published) VALUES ($1, $2, 1) \
             ON CONFLICT (name) DO UPDATE SET published = packages.published + 1 RETURNING published",
        )
        .bind(package.as_str())
        .bind(publication.published_us)
        .fetch_one(&mut *self.tx)
        .await
        .map_err(failed("publish a package"))?;
        let number = Fields::of("packages", &row).integer("published")?;
        if let Some(there) = self.version(package, version).await? {
            if there.digest == digest {
                return Ok(Published::Identical(digest));
            }
            let (package, version, digest) = (package.clone(), version.clone(), there.digest);
            return Err(Conflict::Version { package, version, digest }.into());
        }
        sqlx::query("INSERT INTO components (digest, bytes) VALUES ($1, $2) ON CONFLICT (digest) DO NOTHING")
            .bind(digest.to_string())
            .bind(component)
            .execute(&mut *self.tx)
            .await
            .map_err(failed("store a component"))?;
        sqlx::query(
            "INSERT INTO versions (package, version, number, digest, size, manifest, descriptors, published_us, \
             published_by, signature, changed_us, counter, mac) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $8, $11, $12)",
        )
        .bind(package.as_str())
        .bind(version.to_string())
        .bind(number)
        .bind(digest.to_string())
        .bind(integer(component.len() as u64))
        .bind(json(&publication.manifest))
        .bind(publication.descriptors.as_str())
        .bind(publication.published_us)
        .bind(publication.published_by.as_str())
        .bind(publication.signature.as_deref())
        .bind(counter)
        .bind(publication.mac.as_str())
        .execute(&mut *self.tx)
        .await
        .map_err(failed("publish a version"))?;
        Ok(Published::New(digest))
    }
}

async fn component(connection: &mut AnyConnection, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
    let row = sqlx::query("SELECT bytes FROM components WHERE digest = $1")
        .bind(digest.to_string())
        .fetch_optional(connection)
        .await
        .map_err(failed("read a component"))?;
    let Some(row) = row else { return Ok(None) };
    let fields = Fields::of("components", &row);
    let bytes = fields.bytes("bytes")?;
    if Digest::of(&bytes) == *digest {
        Ok(Some(bytes))
    } else {
        Err(fields.corrupt("bytes", format_args!("not the component {digest}")))
    }
}

fn package(row: &AnyRow) -> Result<Package, StoreError> {
    let fields = Fields::of("packages", row);
    Ok(Package {
        name: fields.id("name")?,
        created_us: fields.integer("created_us")?,
        newest: fields.text("newest")?,
        about: fields.text("about")?,
        mac: fields.text("mac")?,
    })
}

fn parse(row: &AnyRow) -> Result<Version, StoreError> {
    let fields = Fields::of("versions", row);
    Ok(Version {
        number: fields.integer("number")?,
        digest: fields.id("digest")?,
        size: fields.count("size")?,
        published: Publication {
            manifest: fields.json("manifest")?,
            descriptors: fields.text("descriptors")?,
            published_us: fields.integer("published_us")?,
            published_by: fields.text("published_by")?,
            signature: fields.optional("signature")?,
            mac: fields.text("mac")?,
        },
        status: fields.text("status")?,
        advisory: fields.text("advisory")?,
        changed_us: fields.integer("changed_us")?,
        advisory_mac: fields.text("advisory_mac")?,
    })
}
