#!/bin/bash
# Renders a dataset as an array of Slurm jobs, each of which writes its share into one folder:
#
#     sbatch examples/pairs/slurm_render.sh --preset paper --out /shared/pairs
#
# The same line again resumes what was cut off, and with another --array too. The folder's
# file system needs locks (flock); without, 'dig-env render' says so before it renders. To check
# the whole: dig-env audit /shared/pairs
#SBATCH --job-name=dig-pairs
#SBATCH --array=1-16
#SBATCH --cpus-per-task=8
#SBATCH --mem=8G
#SBATCH --time=04:00:00
#SBATCH --requeue

exec dig-env render "$@" --workers "$SLURM_CPUS_PER_TASK" \
    --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"
