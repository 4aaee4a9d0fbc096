-- Which of a call's conversations with agents a turn belongs to: an agent may hand its caller over to another.
ALTER TABLE turns ADD COLUMN conversation BIGINT NOT NULL DEFAULT 0;
