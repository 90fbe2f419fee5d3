"""The report: tables, figures, report.md and report.html."""
