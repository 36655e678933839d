"""Bags, videos and the synthetic world: frames out of files. Knows nothing of networks or ROS."""
