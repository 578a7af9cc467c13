"""Where runs happen: one description of a job, written out for each engine that can run it.

spec.py      what a job needs, whoever runs it
machines.py  the machines that can be had, and how many of them a topology is
local.py     processes on this machine, supervised: the reference for all others
jobset.py    a JobSet for Kubernetes (GKE, with Kueue or as XPK sets a cluster up)
slurm.py     a script for sbatch
skypilot.py  a task for SkyPilot
tpu_vm.py    queued resources of Cloud TPU
doctor.py    are all processes and devices there, and do they reach one another?
cli.py       the `launch` command
"""
