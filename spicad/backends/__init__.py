"""The backends that run steps: local.py on this machine, slurm.py on a cluster; backend.py says what both answer to."""
