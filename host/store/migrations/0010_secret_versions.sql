-- Portable, as 0001 is.

-- Values that were put before the one in `secrets`, so that a bad one can be taken back. A few of each name are kept.
CREATE TABLE secret_versions (
    tenant_id TEXT NOT NULL,
    name TEXT NOT NULL,
    version BIGINT NOT NULL,
    sealed BYTES NOT NULL,
    created_us BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    PRIMARY KEY (tenant_id, name, version)
);
