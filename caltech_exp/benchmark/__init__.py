"""What an engine costs: whole epochs, their parts, and the hardware's limit, each in a process of its own."""
