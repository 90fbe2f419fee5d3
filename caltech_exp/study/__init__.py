"""A study on the disk: its plan, its records, and who trains which run."""
