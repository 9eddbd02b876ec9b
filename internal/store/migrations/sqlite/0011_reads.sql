-- The artifact that a run read where its input's path or URL points: which version that
-- was does not change when others are written there.
ALTER TABLE run_uses ADD COLUMN artifact TEXT NOT NULL DEFAULT '';
CREATE INDEX run_uses_artifact ON run_uses (artifact, run_id) WHERE artifact <> '';
