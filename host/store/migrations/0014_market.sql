-- Portable, as 0001 is.

-- What becomes of each version, as the signed index has it. What is below the signature of its publisher is not in the index.
ALTER TABLE versions ADD COLUMN status TEXT NOT NULL DEFAULT 'active';
ALTER TABLE versions ADD COLUMN changed_us BIGINT NOT NULL DEFAULT 0;
-- The counter of the index at that change.
ALTER TABLE versions ADD COLUMN counter BIGINT NOT NULL DEFAULT 0;
-- Why, for those who have it installed.
ALTER TABLE versions ADD COLUMN advisory TEXT NOT NULL DEFAULT '';
-- The publisher's signature: a DSSE envelope. NULL where the operator takes unsigned packages.
ALTER TABLE versions ADD COLUMN signature TEXT;
-- What authenticates the row, but for what the index says of it: whoever writes to the database alone makes none that is run.
ALTER TABLE versions ADD COLUMN mac TEXT NOT NULL DEFAULT '';
-- The last tenant that was told of the status; NULL when all were.
ALTER TABLE versions ADD COLUMN told TEXT;

-- The head over all versions, signed by the host; there is one row.
CREATE TABLE market_index (
    only_row BIGINT NOT NULL PRIMARY KEY,
    counter BIGINT NOT NULL,
    head TEXT NOT NULL
);

-- Who may publish, and by which keys: JSON.
CREATE TABLE publishers (
    name TEXT NOT NULL PRIMARY KEY,
    -- A tenant whose own it is: nobody else sees its packages.
    owner TEXT,
    keys TEXT NOT NULL,
    created_us BIGINT NOT NULL,
    created_by TEXT NOT NULL
);

CREATE INDEX publishers_by_owner ON publishers (owner);

-- Who may see and install what; `grantee` is `tenant:` or `tier:` and a name.
CREATE TABLE grants (
    grantee TEXT NOT NULL,
    package TEXT NOT NULL,
    range TEXT NOT NULL,
    created_us BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    PRIMARY KEY (grantee, package)
);
CREATE INDEX grants_by_package ON grants (package, grantee);

-- What authenticates an install's row: whoever writes to the database alone makes none that is run.
ALTER TABLE installs ADD COLUMN mac TEXT NOT NULL DEFAULT '';
-- Which new versions are taken without asking: `pinned`, `patch` or `minor`.
ALTER TABLE installs ADD COLUMN channel TEXT NOT NULL DEFAULT 'pinned';
-- What was installed before, to go back to: JSON.
ALTER TABLE installs ADD COLUMN before TEXT;
-- What the admin allows less of than the package asks for: JSON.
ALTER TABLE installs ADD COLUMN narrowing TEXT NOT NULL DEFAULT '{}';
-- The newest version that asks for more than was agreed to, and of which the tenant was told.
ALTER TABLE installs ADD COLUMN held TEXT;

-- For lists and searches: the version that a list shows, what it says of itself (JSON), and all of its words in lower case.
ALTER TABLE packages ADD COLUMN newest TEXT NOT NULL DEFAULT '';
ALTER TABLE packages ADD COLUMN about TEXT NOT NULL DEFAULT '{}';
ALTER TABLE packages ADD COLUMN words TEXT NOT NULL DEFAULT '';
