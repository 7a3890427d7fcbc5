//! A tenant's secrets: put, list, delete. No use-case gives a value back.

use clawhold_secret_store::{Change, SecretError, SecretInfo, SecretValue};
use clawhold_tenancy::audit::{Event, Outcome};
use clawhold_tenancy::keep::Keep;
use clawhold_tenancy::limits::SECRET_BYTES;
use clawhold_tenancy::permit::{DeleteSecret, ListSecrets, PutSecret};
use clawhold_tenancy::quota::Dimension;
use clawhold_tenancy::{Context, Permit, SecretName};

use crate::{Host, Problem};

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
            .put(permit.tenant(), name, value, Change { event, keep, most })
            .await
            .inspect_err(full)?;
        // Done already: what is told of it must not fail it.
        if let Ok(count) = self.backends.secrets.count(permit.tenant()).await {
            self.admission.limiter().note_used(permit.tenant(), Dimension::Secrets, count, most);
        }
        Ok(version)
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
        if self.backends.secrets.delete(permit.tenant(), name, Change { event, keep, most: u64::MAX }).await? {
            return Ok(());
        }
        Err(Problem::NotFound("secret"))
    }
}
