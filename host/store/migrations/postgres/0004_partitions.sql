-- The policies of what 0003 made, and the audit log by month.

GRANT SELECT, INSERT, UPDATE ON data_keys TO clawhold_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON kept_answers TO clawhold_app;
-- Where a chain begins is said by whoever removes what was before.
GRANT SELECT ON chain_starts TO clawhold_app;
-- Without its keys a tenant's chain says nothing any more, and still verifies.
GRANT SELECT, DELETE ON data_keys, kept_answers TO clawhold_purge;

-- Policies of a table whose rows each belong to one chain.
CREATE FUNCTION own_rows_only(of_tenants name) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', of_tenants);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', of_tenants);
    EXECUTE format(
        $policy$ CREATE POLICY own_rows ON %I
            USING (tenant_id = nullif(current_setting('app.tenant_id', true), ''))
            WITH CHECK (tenant_id = nullif(current_setting('app.tenant_id', true), '')) $policy$, of_tenants);
END
$$;
REVOKE ALL ON FUNCTION own_rows_only FROM PUBLIC;

SELECT own_rows_only('data_keys'), own_rows_only('chain_starts'), own_rows_only('kept_answers');

-- A partition of its own for each month, so that old ones can be dropped as a whole. A unique key must hold the time then; that
-- a number is used once is the work of the lock on chain_heads.
ALTER TABLE audit RENAME CONSTRAINT audit_pkey TO audit_before_pkey;
ALTER TABLE audit RENAME TO audit_before;
CREATE TABLE audit (LIKE audit_before, PRIMARY KEY (tenant_id, seq, at_us)) PARTITION BY RANGE (at_us);
SELECT own_rows_only('audit');
REVOKE ALL ON audit FROM PUBLIC;
GRANT SELECT, INSERT ON audit TO clawhold_app;

-- For entries of a month that has no partition yet: nothing is refused because nobody made one.
CREATE TABLE audit_default PARTITION OF audit DEFAULT;
SELECT own_rows_only('audit_default');
REVOKE ALL ON audit_default FROM PUBLIC, clawhold_app, clawhold_purge;

-- Makes the partition of a month, if there is none, and moves there what the default partition has of it.
CREATE FUNCTION add_audit_month(month date) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    partition name := 'audit_' || to_char(month, 'YYYY_MM');
    from_us bigint := extract(epoch FROM date_trunc('month', month::timestamp))::bigint * 1000000;
    to_us bigint := extract(epoch FROM date_trunc('month', month::timestamp) + interval '1 month')::bigint * 1000000;
BEGIN
    IF to_regclass(format('%I', partition)) IS NOT NULL THEN
        RETURN false;
    END IF;
    LOCK TABLE audit IN ACCESS EXCLUSIVE MODE;
    EXECUTE format('CREATE TABLE %I (LIKE audit)', partition);
    -- Whoever owns the tables has no tenant here.
    ALTER TABLE audit_default NO FORCE ROW LEVEL SECURITY;
    EXECUTE format('WITH moved AS (DELETE FROM audit_default WHERE at_us >= %s AND at_us < %s RETURNING *) '
        'INSERT INTO %I SELECT * FROM moved', from_us, to_us, partition);
    ALTER TABLE audit_default FORCE ROW LEVEL SECURITY;
    EXECUTE format('ALTER TABLE audit ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)', partition, from_us, to_us);
    PERFORM own_rows_only(partition);
    EXECUTE format('REVOKE ALL ON %I FROM PUBLIC, clawhold_app, clawhold_purge', partition);
    RETURN true;
END
$$;
REVOKE ALL ON FUNCTION add_audit_month FROM PUBLIC;

ALTER TABLE audit_before NO FORCE ROW LEVEL SECURITY;
SELECT add_audit_month(month) FROM (
    SELECT DISTINCT date_trunc('month', to_timestamp(at_us / 1000000) AT TIME ZONE 'UTC')::date AS month FROM audit_before
) AS months;
-- Row by row under its own tenant: the new table's policies hold for whoever owns it, too.
ALTER TABLE audit NO FORCE ROW LEVEL SECURITY;
INSERT INTO audit SELECT * FROM audit_before;
ALTER TABLE audit FORCE ROW LEVEL SECURITY;
DROP TABLE audit_before;

-- What another node must forget is told over a channel; see `driver/postgres/listen.rs`. NOTIFY needs no grant.
