-- Who may do what, for PostgreSQL. The role that runs this owns the tables.
--
-- app.tenant_id is set for one transaction, as its first statement. Unset, or empty as a finished transaction leaves it, it
-- names nobody: no rows, and inserts fail. '_host' is the host's own chain, and what belongs to no single tenant.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'clawhold_app') THEN
        CREATE ROLE clawhold_app NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'clawhold_purge') THEN
        CREATE ROLE clawhold_purge NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE;
    END IF;
END
$$;

REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO clawhold_app, clawhold_purge;

-- Append-only: what is in a chain or a run's record stays.
GRANT SELECT, INSERT ON audit, runs, components, versions TO clawhold_app;
GRANT SELECT, INSERT, UPDATE ON tenants, tokens, packages, secrets, chain_heads TO clawhold_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON installs, install_skills TO clawhold_app;
-- A purge removes a tenant's data and never its chain.
GRANT SELECT, DELETE ON installs, install_skills, secrets, runs, tokens TO clawhold_purge;

DO $$
DECLARE
    of_tenants name;
BEGIN
    FOREACH of_tenants IN ARRAY ARRAY['installs', 'install_skills', 'secrets', 'runs', 'audit', 'chain_heads'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', of_tenants);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', of_tenants);
        EXECUTE format(
            $policy$ CREATE POLICY own_rows ON %I
                USING (tenant_id = nullif(current_setting('app.tenant_id', true), ''))
                WITH CHECK (tenant_id = nullif(current_setting('app.tenant_id', true), '')) $policy$, of_tenants);
    END LOOP;
END
$$;

-- A request names a token by its id alone, before anybody knows whose it is: the host looks it up as itself.
ALTER TABLE tokens ENABLE ROW LEVEL SECURITY;
ALTER TABLE tokens FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON tokens
    USING (nullif(current_setting('app.tenant_id', true), '') = '_host'
        OR scope_kind = 'tenant' AND scope = nullif(current_setting('app.tenant_id', true), ''))
    WITH CHECK (nullif(current_setting('app.tenant_id', true), '') = '_host'
        OR scope_kind = 'tenant' AND scope = nullif(current_setting('app.tenant_id', true), ''));

ALTER TABLE tenants ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenants FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON tenants
    USING (nullif(current_setting('app.tenant_id', true), '') IN ('_host', id))
    WITH CHECK (nullif(current_setting('app.tenant_id', true), '') IN ('_host', id));
