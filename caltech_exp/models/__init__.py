"""Networks, their weights, and networks of the user."""
