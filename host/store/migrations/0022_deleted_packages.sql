-- Portable, as 0001 is.

-- When a package was deleted. The row stays, so that its name is never given again; its versions stay in the index, revoked.
ALTER TABLE packages ADD COLUMN deleted_us BIGINT;
