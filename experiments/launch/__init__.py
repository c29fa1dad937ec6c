"""Starts one training on one machine, on a SLURM cluster or on Kubernetes: ``python -m experiments.launch --help``."""
