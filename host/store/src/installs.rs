//! Installs: which packages a tenant uses, at which version, under which policy.
//!
//! A tenant's skills have names of their own: two installed packages cannot offer the same one.

use std::collections::BTreeSet;

use clawhold_tenancy::policy::Policy;
use clawhold_tenancy::{Digest, PackageName, SecretName, SkillName};
use semver::Version;
use sqlx::any::AnyRow;

use crate::driver::{self, Change};
use crate::error::failed;
use crate::fields::{Fields, json};
use crate::{Conflict, StoreError, TenantTx, Write};

/// What is to be installed, or what an install is to become.
#[derive(Debug, Clone, PartialEq)]
pub struct PutInstall {
    /// The package.
    pub package: PackageName,
    /// Its version, which is pinned.
    pub version: Version,
    /// The component.
    pub digest: Digest,
    /// The tenant's settings: a JSON object.
    pub settings: serde_json::Value,
    /// The digest of the policy that the admin consented to.
    pub consent: Digest,
    /// The secrets whose value the admin lets the package read.
    pub reveal: BTreeSet<SecretName>,
    /// What it may do.
    pub policy: Policy,
    /// Microseconds since 1970.
    pub updated_us: i64,
    /// Who did it.
    pub updated_by: String,
    /// Which new versions are taken without asking, in the marketplace's word.
    pub channel: String,
    /// What authenticates all of this, by whoever puts it.
    pub mac: String,
    /// What was installed before, to go back to: JSON.
    pub before: Option<String>,
    /// What the admin allows less of than the package asks for: JSON.
    pub narrowing: String,
}

/// An install.
#[derive(Debug, Clone, PartialEq)]
pub struct Install {
    /// What was put last.
    pub put: PutInstall,
    /// Grows with every change of the tenant's installs, and is never used twice.
    pub revision: i64,
    /// When it was first put, in microseconds since 1970.
    pub created_us: i64,
    /// The newest version that is not followed to, because it asks for more than was agreed to or cannot be put as it is, and of which the
    /// tenant was told.
    pub held: Option<Version>,
}

/// A skill that a tenant can call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstalledSkill {
    /// Its name.
    pub skill: SkillName,
    /// The package that offers it.
    pub package: PackageName,
    /// The package's installed version.
    pub version: Version,
    /// The component.
    pub digest: Digest,
}

impl<M> TenantTx<M> {
    /// The install of a package.
    pub async fn install(&mut self, package: &PackageName) -> Result<Option<Install>, StoreError> {
        sqlx::query("SELECT * FROM installs WHERE tenant_id = $1 AND package = $2")
            .bind(self.tenant.as_str())
            .bind(package.as_str())
            .fetch_optional(&mut *self.tx)
            .await
            .map_err(failed("read an install"))?
            .as_ref()
            .map(parse)
            .transpose()
    }

    /// The install that offers a skill.
    pub async fn install_of_skill(&mut self, skill: &SkillName) -> Result<Option<Install>, StoreError> {
        sqlx::query(
            "SELECT installs.* FROM install_skills JOIN installs ON installs.tenant_id = install_skills.tenant_id \
             AND installs.package = install_skills.package \
             WHERE install_skills.tenant_id = $1 AND install_skills.skill = $2",
        )
        .bind(self.tenant.as_str())
        .bind(skill.as_str())
        .fetch_optional(&mut *self.tx)
        .await
        .map_err(failed("read the install of a skill"))?
        .as_ref()
        .map(parse)
        .transpose()
    }

    /// How many packages are installed.
    pub async fn count_installs(&mut self) -> Result<u64, StoreError> {
        let counted = sqlx::query_scalar::<_, i64>("SELECT COUNT(*) FROM installs WHERE tenant_id = $1")
            .bind(self.tenant.as_str())
            .fetch_one(&mut *self.tx)
            .await
            .map_err(failed("count installs"))?;
        Ok(counted.unsigned_abs())
    }

    /// Installs behind `after`, by package, at most `limit`.
    pub async fn installs(&mut self, after: Option<&PackageName>, limit: u32) -> Result<Vec<Install>, StoreError> {
        sqlx::query("SELECT * FROM installs WHERE tenant_id = $1 AND package > $2 ORDER BY package LIMIT $3")
            .bind(self.tenant.as_str())
            .bind(after.map_or("", PackageName::as_str))
            .bind(i64::from(limit))
            .fetch_all(&mut *self.tx)
            .await
            .map_err(failed("list installs"))?
            .iter()
            .map(parse)
            .collect()
    }

    /// The versions of what is installed, of packages from one to another, and how many skills each gives the tenant.
    pub async fn installed_between(
        &mut self,
        from: &PackageName,
        to: &PackageName,
    ) -> Result<Vec<(PackageName, Version, u64)>, StoreError> {
        let query = "SELECT package, version, (SELECT COUNT(*) FROM install_skills WHERE install_skills.tenant_id = installs.tenant_id \
                     AND install_skills.package = installs.package) AS skills \
                     FROM installs WHERE tenant_id = $1 AND package >= $2 AND package <= $3";
        sqlx::query(query)
            .bind(self.tenant.as_str())
            .bind(from.as_str())
            .bind(to.as_str())
            .fetch_all(&mut *self.tx)
            .await
            .map_err(failed("list what is installed"))?
            .iter()
            .map(|row| {
                let fields = Fields::of("installs", row);
                Ok((fields.id("package")?, fields.id("version")?, fields.integer("skills")?.unsigned_abs()))
            })
            .collect()
    }

    /// Installs that follow new versions by themselves, by package.
    pub async fn following(&mut self) -> Result<Vec<Install>, StoreError> {
        sqlx::query("SELECT * FROM installs WHERE tenant_id = $1 AND channel <> 'pinned' ORDER BY package")
            .bind(self.tenant.as_str())
            .fetch_all(&mut *self.tx)
            .await
            .map_err(failed("list installs that follow"))?
            .iter()
            .map(parse)
            .collect()
    }

    /// Callable skills behind `after`, by name, at most `limit`.
    pub async fn skills(&mut self, after: Option<&SkillName>, limit: u32) -> Result<Vec<InstalledSkill>, StoreError> {
        sqlx::query(
            "SELECT install_skills.skill, installs.package, installs.version, installs.digest FROM install_skills \
             JOIN installs ON installs.tenant_id = install_skills.tenant_id \
             AND installs.package = install_skills.package \
             WHERE install_skills.tenant_id = $1 AND install_skills.skill > $2 \
             ORDER BY install_skills.skill LIMIT $3",
        )
        .bind(self.tenant.as_str())
        .bind(after.map_or("", SkillName::as_str))
        .bind(i64::from(limit))
        .fetch_all(&mut *self.tx)
        .await
        .map_err(failed("list skills"))?
        .iter()
        .map(|row| {
            let fields = Fields::of("installs", row);
            Ok(InstalledSkill {
                skill: fields.id("skill")?,
                package: fields.id("package")?,
                version: fields.id("version")?,
                digest: fields.id("digest")?,
            })
        })
        .collect()
    }
}

impl TenantTx<Write> {
    /// Installs a package or changes its install, and says the new revision. `skills` is all that it offers;
    /// [`Conflict::Skill`] if another installed package offers one of them, [`Conflict::Missing`] if the tenant or the
    /// version does not exist.
    ///
    /// If `expected` is given and the install has another revision, or there is none: [`Conflict::Revision`].
    pub async fn put_install(
        &mut self,
        put: &PutInstall,
        skills: &[SkillName],
        expected: Option<i64>,
    ) -> Result<i64, StoreError> {
        // Locks the tenant's row: whoever else changes an install waits.
        let revision = self.next_revision().await?.ok_or(Conflict::Missing("put an install"))?;
        self.require_revision(&put.package, expected).await?;
        sqlx::query(
            "INSERT INTO installs (tenant_id, package, version, digest, settings, consent, reveal, policy, revision, \
             created_us, updated_us, updated_by, channel, mac, before, narrowing) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, $11, $12, $13, $14, $15) \
             ON CONFLICT (tenant_id, package) DO UPDATE SET version = excluded.version, digest = excluded.digest, \
             settings = excluded.settings, consent = excluded.consent, reveal = excluded.reveal, \
             policy = excluded.policy, revision = excluded.revision, updated_us = excluded.updated_us, \
             updated_by = excluded.updated_by, channel = excluded.channel, mac = excluded.mac, before = excluded.before, \
             narrowing = excluded.narrowing, held = NULL",
        )
        .bind(self.tenant.as_str())
        .bind(put.package.as_str())
        .bind(put.version.to_string())
        .bind(put.digest.to_string())
        .bind(put.settings.to_string())
        .bind(put.consent.to_string())
        .bind(json(&put.reveal))
        .bind(json(&put.policy))
        .bind(revision)
        .bind(put.updated_us)
        .bind(put.updated_by.as_str())
        .bind(put.channel.as_str())
        .bind(put.mac.as_str())
        .bind(put.before.as_deref())
        .bind(put.narrowing.as_str())
        .execute(&mut *self.tx)
        .await
        .map_err(failed("put an install"))?;
        driver::tell(&mut self.tx, &Change::Installs(self.tenant.to_string())).await?;
        sqlx::query("DELETE FROM install_skills WHERE tenant_id = $1 AND package = $2")
            .bind(self.tenant.as_str())
            .bind(put.package.as_str())
            .execute(&mut *self.tx)
            .await
            .map_err(failed("replace an install's skills"))?;
        for skill in skills {
            self.offer(skill, &put.package).await?;
        }
        Ok(revision)
    }

    /// Notes that a version is held; `false` if that was noted, or the install has another revision by now.
    pub async fn hold(&mut self, package: &PackageName, revision: i64, version: &Version) -> Result<bool, StoreError> {
        let held = sqlx::query(
            "UPDATE installs SET held = $4 WHERE tenant_id = $1 AND package = $2 AND revision = $3 \
             AND (held IS NULL OR held <> $4)",
        )
        .bind(self.tenant.as_str())
        .bind(package.as_str())
        .bind(revision)
        .bind(version.to_string())
        .execute(&mut *self.tx)
        .await
        .map_err(failed("hold a version"))?;
        Ok(held.rows_affected() > 0)
    }

    /// Removes an install and its skills; `false` if there is none.
    pub async fn remove_install(&mut self, package: &PackageName, expected: Option<i64>) -> Result<bool, StoreError> {
        if expected.is_some() {
            self.next_revision().await?;
            self.require_revision(package, expected).await?;
        }
        let removed = sqlx::query("DELETE FROM installs WHERE tenant_id = $1 AND package = $2")
            .bind(self.tenant.as_str())
            .bind(package.as_str())
            .execute(&mut *self.tx)
            .await
            .map_err(failed("remove an install"))?;
        driver::tell(&mut self.tx, &Change::Installs(self.tenant.to_string())).await?;
        Ok(removed.rows_affected() > 0)
    }

    async fn require_revision(&mut self, package: &PackageName, expected: Option<i64>) -> Result<(), StoreError> {
        let Some(expected) = expected else { return Ok(()) };
        let there = self.install(package).await?.map(|install| install.revision);
        if there == Some(expected) { Ok(()) } else { Err(Conflict::Revision { expected, there }.into()) }
    }

    pub(crate) async fn next_revision(&mut self) -> Result<Option<i64>, StoreError> {
        sqlx::query(
            "UPDATE tenants SET installs_revision = installs_revision + 1 WHERE id = $1 RETURNING installs_revision",
        )
        .bind(self.tenant.as_str())
        .fetch_optional(&mut *self.tx)
        .await
        .map_err(failed("count a tenant's installs"))?
        .map(|row| Fields::of("tenants", &row).integer("installs_revision"))
        .transpose()
    }

    async fn offer(&mut self, skill: &SkillName, package: &PackageName) -> Result<(), StoreError> {
        // The update that changes nothing says who has the name, new or not, and locks it.
        let row = sqlx::query(
            "INSERT INTO install_skills (tenant_id, skill, package) VALUES ($1, $2, $3) \
             ON CONFLICT (tenant_id, skill) DO UPDATE SET package = install_skills.package RETURNING package",
        )
        .bind(self.tenant.as_str())
        .bind(skill.as_str())
        .bind(package.as_str())
        .fetch_one(&mut *self.tx)
        .await
        .map_err(failed("offer a skill"))?;
        let by: PackageName = Fields::of("install_skills", &row).id("package")?;
        if by == *package { Ok(()) } else { Err(Conflict::Skill { skill: skill.clone(), by }.into()) }
    }
}

fn parse(row: &AnyRow) -> Result<Install, StoreError> {
    let fields = Fields::of("installs", row);
    Ok(Install {
        put: PutInstall {
            package: fields.id("package")?,
            version: fields.id("version")?,
            digest: fields.id("digest")?,
            settings: fields.json("settings")?,
            consent: fields.id("consent")?,
            reveal: fields.json("reveal")?,
            policy: fields.json("policy")?,
            updated_us: fields.integer("updated_us")?,
            updated_by: fields.text("updated_by")?,
            channel: fields.text("channel")?,
            mac: fields.text("mac")?,
            before: fields.optional("before")?,
            narrowing: fields.text("narrowing")?,
        },
        held: fields.optional_id("held")?,
        revision: fields.integer("revision")?,
        created_us: fields.integer("created_us")?,
    })
}
