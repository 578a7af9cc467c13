#!/bin/bash
# tiny, 1 run on h100:8x8
#SBATCH --job-name=tiny
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
#SBATCH --nodes=8
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --exclusive
#SBATCH --time=1440
#SBATCH --partition=gpu
#SBATCH --account=lab
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#SBATCH --qos=high
export SLURM_CPU_BIND=none
export RESEARCH_JOIN_SECONDS=600
source .venv/bin/activate
set -u  # only now: what sets up an environment may read what is not there
export job=$SLURM_JOB_ID
set -- research run tests/tiny_experiment.py text=corpus.txt steps=1_000

# A mistake must not be tried again, whatever the other processes make of its absence.
process='
  trap : TERM  # for the run; bash waits for it
  "$@"
  code=$?
  case $code in 2 | 3 | 4) scontrol update JobId="$job" Requeue=0 ;; esac
  exit "$code"'

# SLURM tells this script ahead of the limit, and it the processes: they save and end with 42.
trap 'trap : TERM; scancel --signal=TERM "$job"' USR1
# What SLURM ends by itself it tells everyone, and has decided whether to start it again.
decided=
trap 'decided=1' TERM
srun --kill-on-bad-exit=0 --wait=120 --label bash -c "$process" process "$@" &
step=$!
code=0
wait "$step" || code=$?
while kill -0 "$step" 2>/dev/null; do  # the signal ended the wait, not the step
  code=0
  wait "$step" || code=$?
done

trap '' USR1  # from here on the limit is that of the next start, which has the same number
case $code in
  0 | 2 | 3 | 4) ;;
  *) [ "$decided" ] || [ "${SLURM_RESTART_COUNT:-0}" -ge 10 ] || scontrol requeue "$job" ;;
esac
exit "$code"
