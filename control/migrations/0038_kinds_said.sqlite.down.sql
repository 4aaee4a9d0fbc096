DROP TRIGGER turns_added;
DROP TRIGGER turns_removed;
DROP TRIGGER turns_changed;
DROP TABLE turn_words;
ALTER TABLE turns DROP COLUMN kinds;
CREATE VIRTUAL TABLE turn_words USING fts5 (text, facets, content = 'turns', content_rowid = 'id', tokenize = 'unicode61 remove_diacritics 2');
INSERT INTO turn_words (turn_words, rank) VALUES ('secure-delete', 1);
INSERT INTO turn_words (turn_words) VALUES ('rebuild');
CREATE TRIGGER turns_added AFTER INSERT ON turns BEGIN
    INSERT INTO turn_words (rowid, text, facets) VALUES (new.id, new.text, new.facets);
END;
CREATE TRIGGER turns_removed AFTER DELETE ON turns BEGIN
    INSERT INTO turn_words (turn_words, rowid, text, facets) VALUES ('delete', old.id, old.text, old.facets);
END;
CREATE TRIGGER turns_changed AFTER UPDATE OF text, facets ON turns BEGIN
    INSERT INTO turn_words (turn_words, rowid, text, facets) VALUES ('delete', old.id, old.text, old.facets);
    INSERT INTO turn_words (rowid, text, facets) VALUES (new.id, new.text, new.facets);
END;
