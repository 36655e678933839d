"""The one exception type that means "tell the person, in one line"."""

from __future__ import annotations


class SsmdeError(Exception):
    """Bad input or a missing file, said in one line: what is wrong, where, and what to do.

    The command line prints the message and exits with status 1; the nodes log it and live on.
    Anything else that escapes is a defect of ours and keeps its traceback.
    """
