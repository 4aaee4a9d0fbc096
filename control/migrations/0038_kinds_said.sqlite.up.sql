-- The index of words knows the kind of each call, and whose calls of that kind: a search in a few of somebody's calls reads those alone, where
-- it had to read all of theirs, all that the target answered, and so on, side by side. The index is made anew.
ALTER TABLE turns ADD COLUMN kinds TEXT NOT NULL DEFAULT '';
DROP TRIGGER turns_added;
DROP TRIGGER turns_removed;
DROP TRIGGER turns_changed;
DROP TABLE turn_words;
UPDATE turns SET kinds = (
    SELECT 'k' || r.kind || COALESCE((SELECT group_concat(' k' || r.kind || 'o' || lower(hex(substr(o.owner, 1, 64))), '') FROM call_owners o WHERE o.call = r.call), '')
    FROM call_records r WHERE r.call = turns.call
);
CREATE VIRTUAL TABLE turn_words USING fts5 (text, facets, kinds, content = 'turns', content_rowid = 'id', tokenize = 'unicode61 remove_diacritics 2');
INSERT INTO turn_words (turn_words, rank) VALUES ('secure-delete', 1);
INSERT INTO turn_words (turn_words) VALUES ('rebuild');
CREATE TRIGGER turns_added AFTER INSERT ON turns BEGIN
    INSERT INTO turn_words (rowid, text, facets, kinds) VALUES (new.id, new.text, new.facets, new.kinds);
END;
CREATE TRIGGER turns_removed AFTER DELETE ON turns BEGIN
    INSERT INTO turn_words (turn_words, rowid, text, facets, kinds) VALUES ('delete', old.id, old.text, old.facets, old.kinds);
END;
CREATE TRIGGER turns_changed AFTER UPDATE OF text, facets, kinds ON turns BEGIN
    INSERT INTO turn_words (turn_words, rowid, text, facets, kinds) VALUES ('delete', old.id, old.text, old.facets, old.kinds);
    INSERT INTO turn_words (rowid, text, facets, kinds) VALUES (new.id, new.text, new.facets, new.kinds);
END;
