"""From a command to queued jobs."""
