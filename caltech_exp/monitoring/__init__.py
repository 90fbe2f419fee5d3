"""What became of the runs: their states, their logs, the expected end."""
