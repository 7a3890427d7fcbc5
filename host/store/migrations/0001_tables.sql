-- Portable between SQLite and PostgreSQL: ids and JSON are TEXT, times BIGINT microseconds since 1970. BYTES stands
-- for the database's type of byte strings. The keys of a tenant's data lead with tenant_id: another order would let
-- UNIQUE and FOREIGN KEY tell one tenant that another's row exists.

CREATE TABLE tenants (
    id TEXT NOT NULL PRIMARY KEY,
    tier TEXT NOT NULL,
    state TEXT NOT NULL,
    created_us BIGINT NOT NULL,
    -- Counts changes of installs, so that a revision is never used twice, not even after a removal.
    installs_revision BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE tokens (
    -- A request names a token by its id alone, before anybody knows whose it is.
    id TEXT NOT NULL PRIMARY KEY,
    scope_kind TEXT NOT NULL,
    scope TEXT NOT NULL,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    hash BYTES NOT NULL,
    skills TEXT,
    created_us BIGINT NOT NULL,
    expires_us BIGINT,
    revoked_us BIGINT
);
CREATE INDEX tokens_by_scope ON tokens (scope_kind, scope, id);

CREATE TABLE packages (
    name TEXT NOT NULL PRIMARY KEY,
    created_us BIGINT NOT NULL,
    -- The number of the newest version.
    published BIGINT NOT NULL
);

-- The WebAssembly itself is apart from its description: it is megabytes, and read only to compile it.
CREATE TABLE components (
    digest TEXT NOT NULL PRIMARY KEY,
    bytes BYTES NOT NULL
);

CREATE TABLE versions (
    package TEXT NOT NULL REFERENCES packages (name),
    version TEXT NOT NULL,
    -- In order of publication: 1, 2, 3, and gaps.
    number BIGINT NOT NULL,
    digest TEXT NOT NULL REFERENCES components (digest),
    size BIGINT NOT NULL,
    manifest TEXT NOT NULL,
    descriptors TEXT NOT NULL,
    published_us BIGINT NOT NULL,
    published_by TEXT NOT NULL,
    PRIMARY KEY (package, version),
    UNIQUE (package, number)
);

CREATE TABLE installs (
    tenant_id TEXT NOT NULL REFERENCES tenants (id),
    package TEXT NOT NULL,
    version TEXT NOT NULL,
    digest TEXT NOT NULL,
    settings TEXT NOT NULL,
    consent TEXT NOT NULL,
    reveal TEXT NOT NULL,
    policy TEXT NOT NULL,
    revision BIGINT NOT NULL,
    created_us BIGINT NOT NULL,
    updated_us BIGINT NOT NULL,
    updated_by TEXT NOT NULL,
    PRIMARY KEY (tenant_id, package),
    FOREIGN KEY (package, version) REFERENCES versions (package, version)
);

CREATE TABLE install_skills (
    tenant_id TEXT NOT NULL,
    skill TEXT NOT NULL,
    package TEXT NOT NULL,
    PRIMARY KEY (tenant_id, skill),
    FOREIGN KEY (tenant_id, package) REFERENCES installs (tenant_id, package) ON DELETE CASCADE
);
CREATE INDEX install_skills_by_package ON install_skills (tenant_id, package);

CREATE TABLE secrets (
    tenant_id TEXT NOT NULL REFERENCES tenants (id),
    name TEXT NOT NULL,
    version BIGINT NOT NULL,
    -- NULL once deleted: the row stays, so that its versions are never given out again.
    sealed BYTES,
    created_us BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    PRIMARY KEY (tenant_id, name)
);

CREATE TABLE runs (
    tenant_id TEXT NOT NULL REFERENCES tenants (id),
    -- UUIDv7: in the order of admission.
    id TEXT NOT NULL,
    skill TEXT NOT NULL,
    package TEXT NOT NULL,
    version TEXT NOT NULL,
    digest TEXT NOT NULL,
    caller TEXT NOT NULL,
    started_us BIGINT NOT NULL,
    reason TEXT NOT NULL,
    message TEXT NOT NULL,
    fuel BIGINT NOT NULL,
    memory_bytes BIGINT NOT NULL,
    host_calls BIGINT NOT NULL,
    duration_us BIGINT NOT NULL,
    egress TEXT NOT NULL,
    secrets TEXT NOT NULL,
    policy_version BIGINT NOT NULL,
    log TEXT NOT NULL,
    log_dropped BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, id)
);

-- No reference to tenants: the host has a chain too, and a chain outlives its tenant.
CREATE TABLE audit (
    tenant_id TEXT NOT NULL,
    seq BIGINT NOT NULL,
    at_us BIGINT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    resource TEXT NOT NULL,
    outcome TEXT NOT NULL,
    run_id TEXT,
    trace_id TEXT NOT NULL,
    detail BYTES NOT NULL,
    prev_hash BYTES NOT NULL,
    hash BYTES NOT NULL,
    PRIMARY KEY (tenant_id, seq)
);

CREATE TABLE chain_heads (
    tenant_id TEXT NOT NULL PRIMARY KEY,
    seq BIGINT NOT NULL,
    hash BYTES NOT NULL
);
