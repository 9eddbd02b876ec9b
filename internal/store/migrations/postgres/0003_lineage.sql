-- What a run was made from, and what is known of the content it made: one row
-- for each thing. The other edges of the lineage graph are columns elsewhere: an
-- artifact names its producer, an iteration has the uid of its run.
CREATE TABLE run_uses (
    run_id BIGINT NOT NULL,
    role   TEXT COLLATE "C" NOT NULL CHECK (role IN ('function', 'input', 'content', 'rerun', 'cache', 'output')),
    name   TEXT COLLATE "C" NOT NULL,
    wanted TEXT COLLATE "C" NOT NULL,
    used   TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (run_id, role, name)
);
CREATE INDEX run_uses_used ON run_uses (used, run_id);
