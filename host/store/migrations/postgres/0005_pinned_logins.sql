-- A login that serves one tenant alone: whatever id its host sets, the database shows and takes no other's rows.
--
-- Such a login is a member of clawhold_pinned and of nothing else, so that it cannot SET ROLE its pin away; the others pay nothing for
-- policies that are not theirs. By session_user, which SET ROLE does not change.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'clawhold_pinned') THEN
        CREATE ROLE clawhold_pinned NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE;
    END IF;
END
$$;

CREATE TABLE pinned_logins (
    login name PRIMARY KEY,
    tenant TEXT NOT NULL
);
REVOKE ALL ON pinned_logins FROM PUBLIC;
ALTER TABLE pinned_logins ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_pin ON pinned_logins FOR SELECT USING (login = session_user);

-- Each host reads whether it has one; a login sees its own alone.
GRANT SELECT ON pinned_logins TO clawhold_app, clawhold_pinned;

-- What clawhold_app may, but for tenants, which it does not make, and for what is published, which it only reads.
GRANT USAGE ON SCHEMA public TO clawhold_pinned;
GRANT SELECT ON tenants, packages, versions, components, chain_starts TO clawhold_pinned;
GRANT SELECT, INSERT ON audit, runs TO clawhold_pinned;
GRANT SELECT, INSERT, UPDATE ON tokens, secrets, chain_heads, data_keys TO clawhold_pinned;
GRANT SELECT, INSERT, UPDATE, DELETE ON installs, install_skills, kept_answers TO clawhold_pinned;

-- Beside the policies that permit a tenant's own rows, for these logins one that takes away all but the pinned tenant's. Without a pin that
-- is all of them. Partitions need none: nobody is granted anything on them.
DO $$
DECLARE
    of_tenants name;
    own text;
BEGIN
    FOREACH of_tenants IN ARRAY ARRAY['tenants', 'tokens', 'installs', 'install_skills', 'secrets', 'runs', 'audit', 'chain_heads',
        'data_keys', 'chain_starts', 'kept_answers'] LOOP
        own := CASE of_tenants
            WHEN 'tenants' THEN 'id'
            WHEN 'tokens' THEN 'scope_kind = ''tenant'' AND role IN (''admin'', ''auditor'', ''caller'') AND scope'
            ELSE 'tenant_id' END || ' = (SELECT tenant FROM pinned_logins WHERE login = session_user)';
        EXECUTE format('CREATE POLICY pinned ON %I AS RESTRICTIVE TO clawhold_pinned USING (%s) WITH CHECK (%s)', of_tenants, own, own);
    END LOOP;
END
$$;
