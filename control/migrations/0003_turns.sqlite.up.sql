-- What was said, and its words to search by. The index holds no copy of the text.
CREATE TABLE turns (
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
CREATE VIRTUAL TABLE turn_words USING fts5 (text, content = 'turns', content_rowid = 'id', tokenize = 'unicode61 remove_diacritics 2');
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
