-- Who may do what with what 0020 made. A login that is pinned to a tenant tells nobody.

REVOKE ALL ON market_tellings FROM PUBLIC;
GRANT SELECT, INSERT, UPDATE, DELETE ON market_tellings TO clawhold_app;
