-- The artifact that another one names as its parent, when it is here.
ALTER TABLE artifacts ADD COLUMN parent_id INTEGER REFERENCES artifacts (id) ON DELETE SET NULL;
CREATE INDEX artifacts_parent ON artifacts (parent_id) WHERE parent_id IS NOT NULL;
