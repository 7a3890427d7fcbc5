-- Portable, as 0001 is.

-- Secrets that can be used once, and whose turn it is. A host that dies leaves its row until it has run out.
CREATE TABLE secret_claims (
    tenant_id TEXT NOT NULL,
    name TEXT NOT NULL,
    holder TEXT NOT NULL,
    until_us BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, name)
);
