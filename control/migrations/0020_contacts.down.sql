DROP TABLE do_not_call;
DROP TABLE interactions;
DROP TABLE dispositions;
DROP TABLE contact_numbers;
DROP TABLE contacts;
