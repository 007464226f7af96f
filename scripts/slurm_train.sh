#!/bin/bash
# One training on several machines of a SLURM cluster, of which each is a task:
#
#   sbatch --nodes=2 scripts/slurm_train.sh train --out encoder --batch-size 6
#   sbatch --nodes=4 --gpus-per-task=1 scripts/slurm_train.sh segment train --data my-study --out segmenter
#
# The folder of --out must be one that all machines see. The batch is that of each GPU, or of each
# machine without any. When a task ends too soon, all end; the loop starts them again, and they go on
# after the last epoch.
#
# Adapt these lines to your cluster, and activate the environment of cifl_tf below them.
#SBATCH --job-name=cifl-train
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=16G
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --output=cifl-train-%j.log
set -euo pipefail
export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}"  # which srun does not take over by itself
for attempt in 1 2 3; do
    srun --kill-on-bad-exit=1 cifl "$@" && exit 0
    echo "cifl: the training ended too soon ($attempt of 3 times)" >&2
done
exit 1
