-- Who may do what with what 0014 made.

GRANT UPDATE (status, changed_us, counter, advisory, told) ON versions TO clawhold_app;

REVOKE ALL ON market_index, publishers, grants FROM PUBLIC;
GRANT SELECT, INSERT, UPDATE ON market_index, publishers TO clawhold_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON grants TO clawhold_app;
GRANT SELECT ON market_index, publishers, grants TO clawhold_pinned;

-- A login that is pinned to a tenant learns of no other which packages it has.
ALTER TABLE grants ENABLE ROW LEVEL SECURITY;
CREATE POLICY whole ON grants USING (true) WITH CHECK (true);
CREATE POLICY pinned ON grants AS RESTRICTIVE TO clawhold_pinned
    USING (grantee LIKE 'tier:%' OR grantee = 'tenant:' || (SELECT tenant FROM pinned_logins WHERE login = session_user));
ALTER TABLE publishers ENABLE ROW LEVEL SECURITY;
CREATE POLICY whole ON publishers USING (true) WITH CHECK (true);
CREATE POLICY pinned ON publishers AS RESTRICTIVE TO clawhold_pinned
    USING (owner IS NULL OR owner = (SELECT tenant FROM pinned_logins WHERE login = session_user));
