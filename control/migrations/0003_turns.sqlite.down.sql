DROP TRIGGER turns_changed;
DROP TRIGGER turns_removed;
DROP TRIGGER turns_added;
DROP TABLE turn_words;
DROP TABLE turns;
