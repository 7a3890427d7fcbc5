-- Idempotency keys whose requests are under way, for the other hosts to see. A host that dies leaves one until it has run out.
CREATE TABLE keys_under_way (
    tenant_id TEXT NOT NULL,
    token_id TEXT NOT NULL,
    key TEXT NOT NULL,
    host TEXT NOT NULL,
    request TEXT NOT NULL,
    until_us BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, token_id, key)
);
REVOKE ALL ON keys_under_way FROM PUBLIC;
GRANT SELECT, INSERT, UPDATE, DELETE ON keys_under_way TO clawhold_app, clawhold_pinned;
GRANT SELECT, DELETE ON keys_under_way TO clawhold_purge;
SELECT own_rows_only('keys_under_way');
CREATE POLICY pinned ON keys_under_way AS RESTRICTIVE TO clawhold_pinned
    USING (tenant_id = (SELECT tenant FROM pinned_logins WHERE login = session_user))
    WITH CHECK (tenant_id = (SELECT tenant FROM pinned_logins WHERE login = session_user));
