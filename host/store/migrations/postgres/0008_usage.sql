REVOKE ALL ON usage FROM PUBLIC;
GRANT SELECT, INSERT, UPDATE, DELETE ON usage TO clawhold_app, clawhold_pinned;
GRANT SELECT, DELETE ON usage TO clawhold_purge;
SELECT own_rows_only('usage');
CREATE POLICY pinned ON usage AS RESTRICTIVE TO clawhold_pinned
    USING (tenant_id = (SELECT tenant FROM pinned_logins WHERE login = session_user))
    WITH CHECK (tenant_id = (SELECT tenant FROM pinned_logins WHERE login = session_user));

-- Puts of installs and secrets lock the tenant's row by this column. Quota and tier are not a pinned host's to change.
GRANT UPDATE (installs_revision) ON tenants TO clawhold_pinned;
