//! What the environment says, over what the file does.

use std::collections::HashMap;

use anyhow::Context as _;
use clawhold_tenancy::limits::TABLE;

use super::{Config, from_yaml};

impl Config {
    pub(super) fn overlay(&mut self, environment: &HashMap<String, String>) -> anyhow::Result<()> {
        fn set<T: std::str::FromStr>(
            to: &mut Option<T>,
            name: &str,
            env: &HashMap<String, String>,
        ) -> anyhow::Result<()>
        where
            T::Err: std::fmt::Display,
        {
            if let Some(text) = env.get(name) {
                *to = Some(text.parse().map_err(|e| anyhow::anyhow!("{name}: {text:?} cannot be used: {e}"))?);
            }
            Ok(())
        }
        set(&mut self.listen, "CLAWHOLD_LISTEN", environment)?;
        set(&mut self.public_url, "CLAWHOLD_PUBLIC_URL", environment)?;
        set(&mut self.operations_listen, "CLAWHOLD_OPERATIONS_LISTEN", environment)?;
        set(&mut self.data_dir, "CLAWHOLD_DATA_DIR", environment)?;
        set(&mut self.database_url, "CLAWHOLD_DATABASE_URL", environment)?;
        set(&mut self.database_connections, "CLAWHOLD_DATABASE_CONNECTIONS", environment)?;
        set(&mut self.audit.heads_file, "CLAWHOLD_AUDIT_HEADS_FILE", environment)?;
        set(&mut self.audit.heads_interval_s, "CLAWHOLD_AUDIT_HEADS_INTERVAL_S", environment)?;
        set(&mut self.limiter.redis_url, "CLAWHOLD_LIMITER_REDIS_URL", environment)?;
        set(&mut self.limiter.hosts, "CLAWHOLD_LIMITER_HOSTS", environment)?;
        set(&mut self.metrics.tenants, "CLAWHOLD_METRICS_TENANTS", environment)?;
        set(&mut self.run_slots, "CLAWHOLD_RUN_SLOTS", environment)?;
        set(&mut self.compute_slots, "CLAWHOLD_COMPUTE_SLOTS", environment)?;
        for limit in TABLE {
            let mut value = None;
            set(&mut value, &format!("CLAWHOLD_LIMITS_{}", limit.key.to_uppercase()), environment)?;
            if let Some(value) = value {
                self.limits.put(limit.key, value).expect("the table names keys that there are");
            }
        }
        let mut pure = None;
        set(&mut pure, "CLAWHOLD_REQUIRE_PURE", environment)?;
        self.require_pure = pure.unwrap_or(self.require_pure);
        if let Some(text) = environment.get("CLAWHOLD_EGRESS_OPEN") {
            let ranges = text.split(',').map(str::trim).filter(|range| !range.is_empty());
            self.egress.open = ranges
                .map(|range| range.parse().with_context(|| format!("CLAWHOLD_EGRESS_OPEN: {range:?} is no range")))
                .collect::<anyhow::Result<_>>()?;
        }
        set(&mut self.egress.proxy, "CLAWHOLD_EGRESS_PROXY", environment)?;
        set(&mut self.egress.roots, "CLAWHOLD_EGRESS_ROOTS", environment)?;
        set(&mut self.egress.requests_at_once, "CLAWHOLD_EGRESS_REQUESTS_AT_ONCE", environment)?;
        set(&mut self.egress.first_byte_s, "CLAWHOLD_EGRESS_FIRST_BYTE_S", environment)?;
        yaml(&mut self.egress.tenants, "CLAWHOLD_EGRESS_TENANTS", environment)?;
        yaml(&mut self.egress.allow, "CLAWHOLD_EGRESS_ALLOW", environment)?;
        yaml(&mut self.egress.deny, "CLAWHOLD_EGRESS_DENY", environment)?;
        yaml(&mut self.egress.dns, "CLAWHOLD_EGRESS_DNS", environment)?;
        yaml(&mut self.tenant_quotas, "CLAWHOLD_TENANT_QUOTAS", environment)?;
        yaml(&mut self.quota_ceiling, "CLAWHOLD_QUOTA_CEILING", environment)?;
        yaml(&mut self.tiers, "CLAWHOLD_TIERS", environment)?;
        Ok(())
    }
}

fn yaml<T: serde::de::DeserializeOwned>(to: &mut T, name: &str, env: &HashMap<String, String>) -> anyhow::Result<()> {
    if let Some(text) = env.get(name) {
        *to = from_yaml(text).map_err(|e| anyhow::anyhow!("{name}: {e}"))?;
    }
    Ok(())
}
