-- The names that runs have or had. What is the latest of each is found by index:
-- a row that said it would make all writers of a name wait for each other.
CREATE TABLE run_names (
    project TEXT COLLATE "C" NOT NULL,
    name    TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (project, name)
);
INSERT INTO run_names SELECT DISTINCT project, name FROM runs WHERE iter = 0;

-- updated is that of the artifact, so that a list by tag goes along it.
ALTER TABLE artifact_tags ADD COLUMN updated BIGINT NOT NULL DEFAULT 0;
UPDATE artifact_tags SET updated = a.updated FROM artifacts a WHERE a.id = artifact_tags.artifact_id;
DROP INDEX artifact_tags_name;
CREATE INDEX artifact_tags_name ON artifact_tags (project, tag, updated, artifact_id);

-- The order of lists, with what is often searched in it.
DROP INDEX artifacts_updated;
CREATE INDEX artifacts_updated ON artifacts (project, updated, id, key);
CREATE INDEX artifacts_kind    ON artifacts (project, kind, updated);
-- What is below a folder. A path may be longer than an index entry, so its
-- beginning is indexed.
CREATE INDEX artifacts_below ON artifacts (left(target, 250)) WHERE target <> '';

-- key and value are cut to 250 characters; whoever searches by them compares the rest.
CREATE TABLE artifact_labels (
    project     TEXT COLLATE "C" NOT NULL,
    key         TEXT COLLATE "C" NOT NULL,
    value       TEXT COLLATE "C" NOT NULL,
    artifact_id BIGINT NOT NULL REFERENCES artifacts (id) ON DELETE CASCADE,
    PRIMARY KEY (project, key, value, artifact_id)
);
CREATE INDEX artifact_labels_of ON artifact_labels (artifact_id);
INSERT INTO artifact_labels SELECT a.project, left(l.key, 250), left(l.value, 250), a.id FROM artifacts a, json_each_text(a.labels::json) l WHERE a.labels <> '{}' ON CONFLICT DO NOTHING;
