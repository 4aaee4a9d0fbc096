CREATE TABLE turns_old (
    id INTEGER PRIMARY KEY NOT NULL,
    call TEXT NOT NULL REFERENCES call_records (call) ON DELETE CASCADE,
    number BIGINT NOT NULL,
    speaker TEXT NOT NULL,
    text TEXT NOT NULL,
    started_ms DOUBLE PRECISION NOT NULL,
    ended_ms DOUBLE PRECISION NOT NULL,
    gap_ms DOUBLE PRECISION,
    UNIQUE (call, number)
);
INSERT INTO turns_old (call, number, speaker, text, started_ms, ended_ms, gap_ms)
    SELECT call, number, speaker, text, started_ms, ended_ms, gap_ms FROM turns ORDER BY id;
DROP TABLE turn_words;
DROP TABLE turns;
ALTER TABLE turns_old RENAME TO turns;
CREATE VIRTUAL TABLE turn_words USING fts5 (text, content = 'turns', content_rowid = 'id', tokenize = 'unicode61 remove_diacritics 2');
INSERT INTO turn_words (turn_words, rank) VALUES ('secure-delete', 1);
INSERT INTO turn_words (turn_words) VALUES ('rebuild');
CREATE TRIGGER turns_added AFTER INSERT ON turns BEGIN
    INSERT INTO turn_words (rowid, text) VALUES (new.id, new.text);
END;
CREATE TRIGGER turns_removed AFTER DELETE ON turns BEGIN
    INSERT INTO turn_words (turn_words, rowid, text) VALUES ('delete', old.id, old.text);
END;
CREATE TRIGGER turns_changed AFTER UPDATE OF text ON turns BEGIN
    INSERT INTO turn_words (turn_words, rowid, text) VALUES ('delete', old.id, old.text);
    INSERT INTO turn_words (rowid, text) VALUES (new.id, new.text);
END;

DROP INDEX call_owners_by_kind;
DROP INDEX call_records_by_pair;
DROP INDEX call_records_by_callee_kind;
DROP INDEX call_records_by_caller_kind;
DROP INDEX call_records_by_kind;
CREATE INDEX call_records_by_target ON call_records (target, started_at DESC, call DESC);
CREATE INDEX call_records_by_reason ON call_records (reason, started_at DESC, call DESC);
CREATE INDEX call_records_by_class ON call_records (class, started_at DESC, call DESC);
CREATE INDEX call_records_by_direction ON call_records (direction, started_at DESC, call DESC);
ALTER TABLE call_owners DROP COLUMN kind;
ALTER TABLE call_records DROP COLUMN kind;
DROP TABLE call_kinds;
