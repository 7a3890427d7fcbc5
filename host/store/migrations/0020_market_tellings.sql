-- Portable, as 0001 is.

-- What tenants are still to be told: one row for each change of what becomes of a version, told in the order of the index's counter, and
-- removed when all were. `told` is the last tenant that was.
CREATE TABLE market_tellings (
    counter BIGINT NOT NULL,
    package TEXT NOT NULL,
    version TEXT NOT NULL,
    status TEXT NOT NULL,
    advisory TEXT NOT NULL,
    changed_us BIGINT NOT NULL,
    told TEXT NOT NULL,
    -- What authenticates all but `told` and `counter`.
    mac TEXT NOT NULL,
    PRIMARY KEY (counter, package, version)
);

INSERT INTO market_tellings (counter, package, version, status, advisory, changed_us, told, mac)
    SELECT counter, package, version, status, advisory, changed_us, told, advisory_mac FROM versions WHERE told IS NOT NULL;
ALTER TABLE versions DROP COLUMN told;
