-- Which completed run has the outputs that a run with this key would have. A row
-- is a hint: whoever uses it checks that the run and its outputs are still there.
CREATE TABLE cache (
    project TEXT NOT NULL,
    key     TEXT NOT NULL,
    uid     TEXT NOT NULL,
    created BIGINT NOT NULL,
    PRIMARY KEY (project, key)
);
