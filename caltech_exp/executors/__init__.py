"""Where tasks run: Slurm, through submitit, and a queue on this machine."""
