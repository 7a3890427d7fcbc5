-- Who may do what with what 0018 made.

REVOKE ALL ON market_roots FROM PUBLIC;
GRANT SELECT, INSERT, UPDATE ON market_roots TO clawhold_app;
GRANT SELECT ON market_roots TO clawhold_pinned;
GRANT UPDATE (advisory_mac) ON versions TO clawhold_app;
