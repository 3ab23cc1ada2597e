#!/bin/bash
# Runs a training command as two processes of one thread each (what torchrun does, but in one process group that can be paused).
#   bash pair.sh python train_unet.py train --data data --out run
export MASTER_ADDR=127.0.0.1 MASTER_PORT=${MASTER_PORT:-29511} WORLD_SIZE=2 OMP_NUM_THREADS=1
RANK=1 LOCAL_RANK=1 "$@" &
other=$!
RANK=0 LOCAL_RANK=0 "$@" || kill $other
wait
