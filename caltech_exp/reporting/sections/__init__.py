"""The page, part by part: a study in, blocks out."""
