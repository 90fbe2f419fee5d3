"""From blocks to files: Markdown, HTML, CSV and LaTeX."""
