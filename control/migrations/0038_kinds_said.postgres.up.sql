-- The kind of each call, and whose calls of that kind, as SQLite's index of words has them: a backup of one database fits the other. This
-- one's index reads the lists of several words side by side without them, and has them not. It is made anew, so that no row is put into it
-- twice.
DROP INDEX turns_by_word;
ALTER TABLE turns ADD COLUMN kinds TEXT NOT NULL DEFAULT '';
UPDATE turns SET kinds = 'k' || r.kind || COALESCE(
    (SELECT string_agg(' k' || r.kind || 'o' || encode(convert_to(left(o.owner, 64), 'UTF8'), 'hex'), '') FROM call_owners o WHERE o.call = r.call), ''
) FROM call_records r WHERE r.call = turns.call;
CREATE INDEX turns_by_word ON turns USING gin ((to_tsvector('simple', text) || array_to_tsvector(string_to_array(facets, ' ')))) WITH (fastupdate = off);
