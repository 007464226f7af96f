#!/bin/bash
# A BIDS dataset on a SLURM cluster: each job of an array does one share of the subjects.
#
#   sbatch --array=1-8 scripts/slurm_array.sh features BIDS_DIR OUT_DIR --model shapes-2d
#
# The array begins with 1. The same line again does what failed, was killed, or is new, and leaves
# the rest as it is. When all jobs have ended, the group level writes the table and the report:
#
#   cifl cohort features BIDS_DIR OUT_DIR group --model shapes-2d
#
# Adapt these lines to your cluster, and activate the environment of cifl_tf below them.
#SBATCH --job-name=cifl
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --output=cifl-%A_%a.log
set -euo pipefail
analysis=$1 bids=$2 out=$3
shift 3
exec cifl cohort "$analysis" "$bids" "$out" participant \
    --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" \
    --omp-nthreads "${SLURM_CPUS_PER_TASK:-1}" "$@"
