-- Portable, as 0001 is.

-- What `tenant set-quota` said of the tenant: JSON, by the keys of tenant_quotas.
ALTER TABLE tenants ADD COLUMN quota TEXT NOT NULL DEFAULT '{}';

-- What a tenant used, by slots of five minutes. Each process of a host has rows of its own, which it writes anew as a whole: the same
-- written twice is not counted twice.
CREATE TABLE usage (
    tenant_id TEXT NOT NULL,
    slot_us BIGINT NOT NULL,
    process TEXT NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (tenant_id, slot_us, process)
);
