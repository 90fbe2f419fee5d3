"""Command lines that plan, submit and watch runs; the only place that imports submitit."""
