"""The report's networks, custom networks, and the weights they start from."""
