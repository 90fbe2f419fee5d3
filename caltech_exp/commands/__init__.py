"""The commands a user types: their options and their main functions."""
