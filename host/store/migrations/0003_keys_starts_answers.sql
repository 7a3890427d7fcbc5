-- Portable, as 0001 is.

-- Each chain owner's data keys, wrapped: what opens the detail of its audit entries and the answers that are kept for it.
CREATE TABLE data_keys (
    tenant_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    wrapped BYTES NOT NULL,
    created_us BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, version)
);

-- Where a chain begins once retention has removed its oldest entries: the last one that was removed.
CREATE TABLE chain_starts (
    tenant_id TEXT NOT NULL PRIMARY KEY,
    seq BIGINT NOT NULL,
    hash BYTES NOT NULL
);

-- Answers to requests with an Idempotency-Key, sealed: written in the transaction that did what was asked.
CREATE TABLE kept_answers (
    tenant_id TEXT NOT NULL,
    token_id TEXT NOT NULL,
    key TEXT NOT NULL,
    fingerprint BYTES NOT NULL,
    answer BYTES NOT NULL,
    created_us BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, token_id, key)
);
CREATE INDEX kept_answers_by_age ON kept_answers (tenant_id, created_us);

ALTER TABLE tokens ADD COLUMN last_used_us BIGINT;
