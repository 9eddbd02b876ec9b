-- What used something and what made it apart, so that 200,000 runs that made equal
-- bytes are not read to find the ones that used them.
DROP INDEX run_uses_used;
CREATE INDEX run_uses_used ON run_uses (used, run_id) WHERE role <> 'output';
CREATE INDEX run_uses_made ON run_uses (used, run_id) WHERE role = 'output';
-- The newest artifact at a place.
DROP INDEX artifacts_target;
CREATE INDEX artifacts_target ON artifacts (md5(target), id) WHERE target <> '';
