-- Secrets are kept encrypted; key_id names the key of the server that can read
-- them. value is bound to its project and name, so rows can not be exchanged.
CREATE TABLE secrets (
    project TEXT    NOT NULL,
    name    TEXT    NOT NULL,
    key_id  TEXT    NOT NULL,
    value   BLOB    NOT NULL,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    PRIMARY KEY (project, name)
) WITHOUT ROWID;
CREATE INDEX secrets_key ON secrets (key_id);

-- Where the content of an artifact is, to know which records share it.
ALTER TABLE artifacts ADD COLUMN target TEXT NOT NULL DEFAULT '';
UPDATE artifacts SET target = COALESCE(json_extract(doc, '$.spec.target_path'), '');
CREATE INDEX artifacts_target ON artifacts (target) WHERE target <> '';
