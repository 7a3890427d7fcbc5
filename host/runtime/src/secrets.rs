//! A tenant's secrets: put, list, delete. No use-case gives a value back.

use clawhold_secret_store::{Change, Over, SecretError, SecretInfo, SecretValue};
use clawhold_tenancy::audit::{Event, Outcome};
use clawhold_tenancy::keep::Keep;
use clawhold_tenancy::limits::SECRET_BYTES;
use clawhold_tenancy::permit::{DeleteSecret, ListSecrets, PutSecret, RollBackSecret};
use clawhold_tenancy::quota::Dimension;
use clawhold_tenancy::{Context, Permit, SecretName, TenantId};

use crate::{Host, Problem};

/// Installs that are looked at in one go.
const INSTALLS: u32 = 100;

impl Host {
    /// Stores a value under a name and tells its version.
    pub async fn put_secret(
        &self,
        cx: &Context,
        permit: &Permit<PutSecret>,
        name: &SecretName,
        value: SecretValue,
        keep: Keep<i64>,
    ) -> Result<i64, Problem> {
        let quota = self.quota_of(permit.tenant()).await?;
        let longest = quota.get(Dimension::SecretBytes).min(SECRET_BYTES);
        let bytes = value.expose().len() as u64;
        if bytes == 0 || bytes > longest {
            let detail = format!("it has {bytes} bytes; write 1 to {longest}, the tenant's max_secret_bytes");
            return Err(Problem::invalid("value", detail));
        }
        self.check_kind(permit.tenant(), name, &value).await?;
        let event = Event::by(cx, permit.action(), format!("secret:{name}"), Outcome::Success);
        let most = quota.get(Dimension::Secrets);
        let full = |error: &SecretError| {
            if matches!(error, SecretError::Full { .. }) {
                self.admission.limiter().note_refused(permit.tenant(), Dimension::Secrets);
            }
        };
        let version = self
            .backends
            .secrets
            .put(permit.tenant(), name, value, Change { keep, most, ..Change::told(event) })
            .await
            .inspect_err(full)?;
        // Done already: what is told of it must not fail it.
        if let Ok(count) = self.backends.secrets.count(permit.tenant()).await {
            self.admission.limiter().note_used(permit.tenant(), Dimension::Secrets, count, most);
        }
        Ok(version)
    }

    /// Whether a value is what the packages that use this secret need of it.
    async fn check_kind(&self, tenant: &TenantId, name: &SecretName, value: &SecretValue) -> Result<(), Problem> {
        let mut after = None;
        loop {
            let installs = self.store.tenant(tenant).await?.installs(after.as_ref(), INSTALLS).await?;
            for install in &installs {
                if let Err(problem) = install.put.policy.kind(name).check(value.expose()) {
                    let detail = format!("the installed package {} cannot use it: {problem}", install.put.package);
                    return Err(Problem::invalid("value", detail));
                }
            }
            match installs.last() {
                Some(last) if installs.len() >= INSTALLS as usize => after = Some(last.put.package.clone()),
                _ => return Ok(()),
            }
        }
    }

    /// The versions of a secret that can be put back, newest first, with the one that is in use.
    pub async fn secret_versions(
        &self,
        permit: &Permit<ListSecrets>,
        name: &SecretName,
    ) -> Result<Vec<SecretInfo>, Problem> {
        let versions = self.backends.secrets.versions(permit.tenant(), name).await?;
        if versions.is_empty() { Err(Problem::NotFound("secret")) } else { Ok(versions) }
    }

    /// Puts an older value back, as a new version: the one before the newest when not said which.
    pub async fn roll_back_secret(
        &self,
        cx: &Context,
        permit: &Permit<RollBackSecret>,
        name: &SecretName,
        to: Option<i64>,
        keep: Keep<i64>,
    ) -> Result<i64, Problem> {
        let tenant = permit.tenant();
        let versions = self.backends.secrets.versions(tenant, name).await?;
        let newest = versions.first().ok_or(Problem::NotFound("secret"))?.version;
        let kept = || versions.iter().skip(1).map(|info| info.version.to_string()).collect::<Vec<_>>().join(", ");
        let to = match (to, versions.get(1)) {
            (None, None) => return Err(Problem::invalid("version", "there is no older value of this secret")),
            (None, Some(before)) => before.version,
            (Some(to), _) if to == newest => {
                return Err(Problem::invalid("version", format!("{to} is the one in use; write one of {}", kept())));
            }
            (Some(to), _) => to,
        };
        let value = self.backends.secrets.get_version(tenant, name, to).await?;
        let value = value.ok_or_else(|| {
            Problem::invalid("version", format!("{to} is not kept any more; write one of {}", kept()))
        })?;
        self.check_kind(tenant, name, &value).await?;
        let event = Event::by(cx, permit.action(), format!("secret:{name}"), Outcome::Success);
        let event = event.with(&serde_json::json!({ "restores": to }));
        // Somebody who puts another meanwhile wins.
        let change = Change { keep, over: Over::Version(newest), ..Change::told(event) };
        Ok(self.backends.secrets.put(tenant, name, value, change).await?)
    }

    /// Names, versions and dates of the secrets behind `after`, by name, at most `limit`.
    pub async fn secrets(
        &self,
        permit: &Permit<ListSecrets>,
        after: Option<&SecretName>,
        limit: u32,
    ) -> Result<Vec<SecretInfo>, Problem> {
        Ok(self.backends.secrets.list(permit.tenant(), after, limit).await?)
    }

    /// Deletes a secret. Runs that already use it finish with it.
    pub async fn delete_secret(
        &self,
        cx: &Context,
        permit: &Permit<DeleteSecret>,
        name: &SecretName,
        keep: Keep<()>,
    ) -> Result<(), Problem> {
        let event = Event::by(cx, permit.action(), format!("secret:{name}"), Outcome::Success);
        if self.backends.secrets.delete(permit.tenant(), name, Change { keep, ..Change::told(event) }).await? {
            return Ok(());
        }
        Err(Problem::NotFound("secret"))
    }
}
