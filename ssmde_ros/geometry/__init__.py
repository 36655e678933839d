"""Camera models, rigid motions, view synthesis. Knows torch, and nothing of data, networks or ROS.

What is imported here is listed in `__init__.pyi`, and loaded when first asked for: torch takes seconds to import, and a
camera does without.
"""

import lazy_loader

# At once: in older versions of lazy_loader the module of the same name takes its place.
from ssmde_ros.geometry.two_view import two_view as two_view

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
