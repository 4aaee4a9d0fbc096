-- What was said, and its words to search by, in no one language.
CREATE TABLE turns (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    call TEXT NOT NULL REFERENCES call_records (call) ON DELETE CASCADE,
    number BIGINT NOT NULL,
    speaker TEXT NOT NULL,
    text TEXT NOT NULL,
    started_ms DOUBLE PRECISION NOT NULL,
    ended_ms DOUBLE PRECISION NOT NULL,
    gap_ms DOUBLE PRECISION,
    UNIQUE (call, number)
);
CREATE INDEX turns_by_word ON turns USING gin (to_tsvector('simple', text));
