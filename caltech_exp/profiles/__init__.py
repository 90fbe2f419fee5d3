"""Where and how to run: profiles, and the options of sbatch."""
