-- Who may do what with what 0016 made: it is what was published, and stays.

REVOKE ALL ON oci_documents FROM PUBLIC;
GRANT SELECT, INSERT ON oci_documents TO clawhold_app;
GRANT SELECT ON oci_documents TO clawhold_pinned;
