-- The policies of what 0012 made.

REVOKE ALL ON secret_claims FROM PUBLIC;
GRANT SELECT, INSERT, UPDATE, DELETE ON secret_claims TO clawhold_app, clawhold_pinned;
GRANT SELECT, DELETE ON secret_claims TO clawhold_purge;
SELECT own_rows_only('secret_claims');
CREATE POLICY pinned ON secret_claims AS RESTRICTIVE TO clawhold_pinned
    USING (tenant_id = (SELECT tenant FROM pinned_logins WHERE login = session_user))
    WITH CHECK (tenant_id = (SELECT tenant FROM pinned_logins WHERE login = session_user));
