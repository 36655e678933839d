"""Settings of a fine-tune that takes seconds."""

from ssmde_ros.training.finetune_config import read_fine_tune

SMALL = {
    "width": 96, "height": 64, "replay_frames": 4, "held_out": 0.3,
    "recording": {"workers": 1}, "key_frames": {"min_frames": 8},
    "train": {"run": {"steps": 4, "batch_size": 2, "checkpoint_every": 2, "accelerator": "cpu"}},
}  # fmt: skip
QUIET = {"enable_progress_bar": False, "logger": False}


def settings(bag, out, weights, **changes):
    """Those, for one bag."""
    values = {**SMALL, "bag": str(bag), "out": str(out), "start": str(weights), **changes}
    return read_fine_tune(None, values)
