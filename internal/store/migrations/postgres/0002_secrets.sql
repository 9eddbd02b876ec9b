-- Secrets are kept encrypted; key_id names the key of the server that can read
-- them. value is bound to its project and name, so rows can not be exchanged.
CREATE TABLE secrets (
    project TEXT COLLATE "C" NOT NULL,
    name    TEXT COLLATE "C" NOT NULL,
    key_id  TEXT COLLATE "C" NOT NULL,
    value   BYTEA  NOT NULL,
    created BIGINT NOT NULL,
    updated BIGINT NOT NULL,
    PRIMARY KEY (project, name)
);
CREATE INDEX secrets_key ON secrets (key_id);

-- Where the content of an artifact is, to know which records share it. A path may
-- be longer than an index entry, so its digest is indexed.
ALTER TABLE artifacts ADD COLUMN target TEXT COLLATE "C" NOT NULL DEFAULT '';
UPDATE artifacts SET target = COALESCE(doc::json #>> '{spec,target_path}', '');
CREATE INDEX artifacts_target ON artifacts (md5(target)) WHERE target <> '';
