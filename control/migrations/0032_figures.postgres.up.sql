-- What figures are made of, a few bytes for each call (control/src/store/figures/entry.rs): in a row the calls of one day that a scope sees,
-- all of them and those of each device. The program fills it from the records where `call_figures_filled` has no row.
DROP INDEX call_records_figures;
CREATE TABLE call_figures (
    -- Nothing: everybody's calls; else an owner's that is a team.
    scope TEXT NOT NULL,
    -- Nothing: whichever took part.
    device TEXT NOT NULL,
    -- Since 1970, in UTC.
    day BIGINT NOT NULL,
    part BIGINT NOT NULL,
    entries BYTEA NOT NULL,
    PRIMARY KEY (scope, device, day, part)
);
CREATE TABLE call_figures_filled (
    one BIGINT PRIMARY KEY NOT NULL
);
-- They do not get smaller by its compression.
ALTER TABLE call_figures ALTER COLUMN entries SET STORAGE EXTERNAL;
