"""From the JSON results of a study to the report's tables and figures; imports caltech_exp and never torch."""
