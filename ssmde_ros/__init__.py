"""Dense depth from one camera, live in ROS 2, that improves on your robot's own recordings.

An implementation of SS-MDE (Hu, Feng, Li, Zhang, Zhao, "Monocular Depth Estimation via
Self-Supervised Self-Distillation", Sensors 2024, 24(13), 4090).
"""

__version__ = "0.1.0"
