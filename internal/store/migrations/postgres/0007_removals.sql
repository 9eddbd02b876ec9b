-- Content that is being deleted with its record: written before the first byte goes,
-- deleted together with the record. force is 1 when the record stays if its content can not
-- be deleted. doc is the record's document, for when the record is gone already.
CREATE TABLE content_removals (
    artifact_id BIGINT NOT NULL PRIMARY KEY,
    force       BIGINT NOT NULL CHECK (force IN (0, 1)),
    doc         TEXT   NOT NULL
);
