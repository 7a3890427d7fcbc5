-- Values of secrets that were found in what a run gave away: JSON, an array of texts.
ALTER TABLE runs ADD COLUMN leaks TEXT NOT NULL DEFAULT '[]';
