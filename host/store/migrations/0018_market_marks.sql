-- Portable, as 0001 is.

-- The root of each package's entries in the index, as it was when the head was signed. They are under the head's signature, all
-- together: with them it is told of which package the rows were changed past the host.
CREATE TABLE market_roots (
    package TEXT NOT NULL PRIMARY KEY,
    root TEXT NOT NULL
);

-- What has changed since a host looked last.
CREATE INDEX versions_by_counter ON versions (counter);

-- What authenticates these rows, as that of 0014 does for versions and installs.
ALTER TABLE publishers ADD COLUMN mac TEXT NOT NULL DEFAULT '';
ALTER TABLE grants ADD COLUMN mac TEXT NOT NULL DEFAULT '';
-- Of `newest`, `about` and `words`.
ALTER TABLE packages ADD COLUMN mac TEXT NOT NULL DEFAULT '';
-- Of `advisory`, with what it was said of.
ALTER TABLE versions ADD COLUMN advisory_mac TEXT NOT NULL DEFAULT '';
