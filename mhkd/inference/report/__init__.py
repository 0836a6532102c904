"""Reports on what was found: one page and one JSON file for each slide, an index page and a table for the cohort."""
