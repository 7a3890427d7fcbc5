-- A login that serves one tenant alone: whatever id its host sets, the database shows and takes no other's rows.
--
-- By session_user and not current_user: every login may SET ROLE clawhold_app, and would be rid of its pin.
CREATE TABLE pinned_logins (
    login name PRIMARY KEY,
    tenant TEXT NOT NULL
);
REVOKE ALL ON pinned_logins FROM PUBLIC;
GRANT SELECT ON pinned_logins TO clawhold_app, clawhold_purge;
-- A login sees its own pin; who owns the tables writes them.
ALTER TABLE pinned_logins ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_pin ON pinned_logins FOR SELECT USING (login = session_user);

-- Beside the policy that permits a tenant's own rows, one that takes away all but the pinned tenant's. `whose` is the condition
-- under which a row is that tenant's, with %s for the tenant.
CREATE FUNCTION pinned_rows_only(of_tenants name, whose text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    own text := 'coalesce(' || format(whose, '(SELECT tenant FROM pinned_logins WHERE login = session_user)') || ', true)';
BEGIN
    EXECUTE format('CREATE POLICY pinned ON %I AS RESTRICTIVE USING (%s) WITH CHECK (%s)', of_tenants, own, own);
END
$$;
REVOKE ALL ON FUNCTION pinned_rows_only FROM PUBLIC;

CREATE OR REPLACE FUNCTION own_rows_only(of_tenants name) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', of_tenants);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', of_tenants);
    EXECUTE format(
        $policy$ CREATE POLICY own_rows ON %I
            USING (tenant_id = nullif(current_setting('app.tenant_id', true), ''))
            WITH CHECK (tenant_id = nullif(current_setting('app.tenant_id', true), '')) $policy$, of_tenants);
    PERFORM pinned_rows_only(of_tenants, 'tenant_id = %s');
END
$$;

SELECT pinned_rows_only(c.relname, 'tenant_id = %s')
    FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
    WHERE p.polname = 'own_rows' AND c.relnamespace = current_schema()::regnamespace AND c.relname NOT IN ('tokens', 'tenants');
CREATE POLICY pinned ON tokens AS RESTRICTIVE
    USING (NOT EXISTS (SELECT FROM pinned_logins WHERE login = session_user)
        OR scope_kind = 'tenant' AND scope = (SELECT tenant FROM pinned_logins WHERE login = session_user))
    WITH CHECK (NOT EXISTS (SELECT FROM pinned_logins WHERE login = session_user)
        OR scope_kind = 'tenant' AND scope = (SELECT tenant FROM pinned_logins WHERE login = session_user));
SELECT pinned_rows_only('tenants', 'id = %s');

-- What is published is everybody's to read, and no pinned login's to write.
DO $$
DECLARE
    of_all name;
BEGIN
    FOREACH of_all IN ARRAY ARRAY['packages', 'versions', 'components'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', of_all);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', of_all);
        EXECUTE format('CREATE POLICY everybodys ON %I FOR SELECT USING (true)', of_all);
        EXECUTE format('CREATE POLICY published ON %I FOR INSERT
            WITH CHECK (NOT EXISTS (SELECT FROM pinned_logins WHERE login = session_user))', of_all);
        EXECUTE format('CREATE POLICY changed ON %I FOR UPDATE
            USING (NOT EXISTS (SELECT FROM pinned_logins WHERE login = session_user))
            WITH CHECK (NOT EXISTS (SELECT FROM pinned_logins WHERE login = session_user))', of_all);
    END LOOP;
END
$$;
