import pytest

rclpy = pytest.importorskip(
    "rclpy", reason="rclpy is not installed: pip install -r requirements/ros.txt, or source a ROS install"
)


@pytest.fixture(scope="module")
def ros():
    rclpy.init()
    yield
    rclpy.try_shutdown()


@pytest.fixture
def peer(ros):
    """Make peers that are cleaned up."""
    from test.nodes.harness import Peer

    made = []

    def make(*args, **kwargs):
        made.append(Peer(*args, **kwargs))
        return made[-1]

    yield make
    for one in made:
        one.close()
