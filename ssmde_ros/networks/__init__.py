"""Networks and their weight files. Knows nothing of data.

What is imported here is listed in `__init__.pyi`, and loaded when first asked for: torch takes seconds to import, and who
knows a weight file by its digest does without.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
