"""Where tasks run: on Slurm through submitit, or in a queue on this machine."""
