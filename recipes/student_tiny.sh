#!/bin/sh
# How models/student-tiny.safetensors was made: sh recipes/student_tiny.sh DATA OUT [WORK]
#
#   DATA  the folder with highway, bedroom, bmx-trees, tennis and euroc_micro: their photographs lend the drawings their look
#   OUT   weights file to write
#   WORK  drawings (6000 scenes, 2.5 GB, a quarter of an hour), checkpoints and logs; runs/student_tiny when left out
#
# Twenty-one minutes on two CPU cores after the drawing. Stopped at any time, the same command goes on.
#
# One head learns: when the shipped weights were made the coarser ones were saturated from the first steps on, to the same effect. The
# shipped weights themselves come from the code of 2026-11-27; how networks start has changed since (their model card says why).
set -eu
DATA=$1 OUT=$2 WORK=${3:-runs/student_tiny}
PYTHON=${PYTHON:-python3}

stage() { # name, output, arguments
    name=$1 out=$2
    shift 2
    mkdir -p "$WORK/frames" "$WORK/$name"
    ln -sfn ../frames "$WORK/$name/frames"
    "$PYTHON" -m ssmde_ros.training.supervised --work "$WORK/$name" --out "$out" --minutes 600 --scenes 6000 \
        --scales 1 --frozen-blocks 6 --mix-styles 0.8 --sky-weight 0.1 --looks "$DATA/highway/solidWhiteRight.mp4" "$DATA/bedroom/frames" \
        "$DATA/bmx-trees/frames" "$DATA/tennis/frames" "$DATA/euroc_micro" "$@"
}

stage layout "$WORK/layout.safetensors" --steps 1700
stage edges "$OUT" --steps 1300 --start "$WORK/layout.safetensors" --learning-rate 0.0008 --gradient-weight 2
