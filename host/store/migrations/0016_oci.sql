-- Portable, as 0001 is.

-- The documents by which OCI clients know a version: its `manifest` and its `config`, made when it was published. They are
-- kept and not made anew: a digest that somebody has pinned outlives a change in how they are made.
CREATE TABLE oci_documents (
    package TEXT NOT NULL,
    version TEXT NOT NULL,
    kind TEXT NOT NULL,
    digest TEXT NOT NULL,
    content TEXT NOT NULL,
    PRIMARY KEY (package, version, kind),
    UNIQUE (package, digest),
    FOREIGN KEY (package, version) REFERENCES versions (package, version)
);

-- A component is asked for by its digest, in a package.
CREATE INDEX versions_by_digest ON versions (package, digest);
