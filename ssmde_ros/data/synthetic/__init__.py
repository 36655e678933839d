"""An analytic synthetic world: exact depth, pose and motion masks, deterministic from a seed.

`SyntheticWorld(WorldConfig(kind="street", seed=7)).render(0.5)` is one frame, half a second in.
"""

from ssmde_ros.data.synthetic.world import SyntheticFrame, SyntheticWorld, WorldConfig

__all__ = ["SyntheticFrame", "SyntheticWorld", "WorldConfig"]
