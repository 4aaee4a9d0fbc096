DROP INDEX call_records_figures;
