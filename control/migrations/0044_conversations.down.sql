ALTER TABLE turns DROP COLUMN conversation;
