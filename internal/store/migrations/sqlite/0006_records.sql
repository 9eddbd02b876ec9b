-- The latest run of each name, by last change and by start, in the order in which
-- lists take them: the greater time, then the later start, then the greater id.
CREATE TABLE run_latest (
    project       TEXT    NOT NULL,
    name          TEXT    NOT NULL,
    updated_id    INTEGER NOT NULL,
    updated       INTEGER NOT NULL,
    updated_start INTEGER NOT NULL,
    start_id      INTEGER NOT NULL,
    start_time    INTEGER NOT NULL,
    PRIMARY KEY (project, name)
) WITHOUT ROWID;
INSERT INTO run_latest
SELECT n.project, n.name, u.id, u.updated, u.start_time, s.id, s.start_time
FROM (SELECT DISTINCT project, name FROM runs WHERE iter = 0) n
JOIN runs u ON u.id = (SELECT x.id FROM runs x WHERE x.iter = 0 AND x.project = n.project AND x.name = n.name ORDER BY x.updated DESC, x.start_time DESC, x.id DESC LIMIT 1)
JOIN runs s ON s.id = (SELECT x.id FROM runs x WHERE x.iter = 0 AND x.project = n.project AND x.name = n.name ORDER BY x.start_time DESC, x.id DESC LIMIT 1);

-- updated is that of the artifact, so that a list by tag goes along it.
ALTER TABLE artifact_tags ADD COLUMN updated INTEGER NOT NULL DEFAULT 0;
UPDATE artifact_tags SET updated = (SELECT a.updated FROM artifacts a WHERE a.id = artifact_tags.artifact_id);
DROP INDEX artifact_tags_name;
CREATE INDEX artifact_tags_name ON artifact_tags (project, tag, updated, artifact_id);

-- The order of lists, with what is often searched in it.
DROP INDEX artifacts_updated;
CREATE INDEX artifacts_updated ON artifacts (project, updated, id, key);
CREATE INDEX artifacts_kind    ON artifacts (project, kind, updated);

-- key and value are cut to 250 characters; whoever searches by them compares the rest.
CREATE TABLE artifact_labels (
    project     TEXT    NOT NULL,
    key         TEXT    NOT NULL,
    value       TEXT    NOT NULL,
    artifact_id INTEGER NOT NULL REFERENCES artifacts (id) ON DELETE CASCADE,
    PRIMARY KEY (project, key, value, artifact_id)
) WITHOUT ROWID;
CREATE INDEX artifact_labels_of ON artifact_labels (artifact_id);
INSERT INTO artifact_labels SELECT a.project, substr(l.key, 1, 250), substr(l.value, 1, 250), a.id FROM artifacts a, json_each(a.labels) l WHERE a.labels <> '{}' ON CONFLICT DO NOTHING;
