"""The pictures of a report: what they show, how they are drawn, and the cache that draws only what changed."""
