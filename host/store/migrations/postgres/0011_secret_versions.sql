-- The policies of what 0010 made.

REVOKE ALL ON secret_versions FROM PUBLIC;
GRANT SELECT, INSERT, UPDATE, DELETE ON secret_versions TO clawhold_app, clawhold_pinned;
GRANT SELECT, DELETE ON secret_versions TO clawhold_purge;
SELECT own_rows_only('secret_versions');
CREATE POLICY pinned ON secret_versions AS RESTRICTIVE TO clawhold_pinned
    USING (tenant_id = (SELECT tenant FROM pinned_logins WHERE login = session_user))
    WITH CHECK (tenant_id = (SELECT tenant FROM pinned_logins WHERE login = session_user));
