"""What several tests of the training share."""

import pytest

from test.data.rendered_bag import rendered_bag


@pytest.fixture(scope="session")
def bag(tmp_path_factory):
    """A recording of a room, with odometry and measured depth; nobody writes to it."""
    return rendered_bag(tmp_path_factory.mktemp("bags") / "room")
