-- A login that is pinned to a tenant reads of packages what that tenant owns, was granted (itself or its tier), or has installed; of their
-- files and documents likewise. The others pay nothing: `whole` is true for them.
--
-- `versions` stays whole: the index is verified over all of its rows, and what a row says beside that cannot be granted by row.

ALTER TABLE packages ENABLE ROW LEVEL SECURITY;
CREATE POLICY whole ON packages USING (true) WITH CHECK (true);
CREATE POLICY pinned ON packages AS RESTRICTIVE TO clawhold_pinned USING (
    EXISTS (SELECT FROM publishers WHERE publishers.name = split_part(packages.name, '/', 1)
        AND publishers.owner = (SELECT tenant FROM pinned_logins WHERE login = session_user))
    OR EXISTS (SELECT FROM grants WHERE grants.package = packages.name AND grants.grantee IN (
        'tenant:' || (SELECT tenant FROM pinned_logins WHERE login = session_user),
        'tier:' || (SELECT tier FROM tenants WHERE id = (SELECT tenant FROM pinned_logins WHERE login = session_user))))
    -- Seen in the tenant's own transactions alone, as all of its rows are.
    OR EXISTS (SELECT FROM installs WHERE installs.tenant_id = (SELECT tenant FROM pinned_logins WHERE login = session_user)
        AND installs.package = packages.name));

-- Both by what is seen of `packages`.
CREATE INDEX versions_by_file ON versions (digest);
ALTER TABLE components ENABLE ROW LEVEL SECURITY;
CREATE POLICY whole ON components USING (true) WITH CHECK (true);
CREATE POLICY pinned ON components AS RESTRICTIVE TO clawhold_pinned USING (
    EXISTS (SELECT FROM versions JOIN packages ON packages.name = versions.package WHERE versions.digest = components.digest));
ALTER TABLE oci_documents ENABLE ROW LEVEL SECURITY;
CREATE POLICY whole ON oci_documents USING (true) WITH CHECK (true);
CREATE POLICY pinned ON oci_documents AS RESTRICTIVE TO clawhold_pinned USING (
    EXISTS (SELECT FROM packages WHERE packages.name = oci_documents.package));

-- Or a login would see whatever it says is installed: what it sees is owned, granted, or was installed before. A function, since a policy of
-- `installs` cannot read what reads `installs`; it has no rights but its caller's.
CREATE FUNCTION sees_package(wanted text) RETURNS boolean LANGUAGE plpgsql STABLE SET search_path = pg_catalog, public AS $$
BEGIN
    RETURN EXISTS (SELECT FROM public.packages WHERE packages.name = wanted);
END
$$;
REVOKE ALL ON FUNCTION sees_package(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION sees_package(text) TO clawhold_pinned;
CREATE POLICY pinned_packages ON installs AS RESTRICTIVE FOR INSERT TO clawhold_pinned WITH CHECK (sees_package(package));
-- Without `tenant_id` and `package`: an install does not become another package's.
REVOKE UPDATE ON installs FROM clawhold_pinned;
GRANT UPDATE (version, digest, settings, consent, reveal, policy, revision, updated_us, updated_by, channel, mac, before, narrowing, held)
    ON installs TO clawhold_pinned;
