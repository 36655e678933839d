import numpy as np
import pytest
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_typestore

from ssmde_ros.data.bags import Bag, BagError
from ssmde_ros.data.sources import SourceError, open_source

STORE = get_typestore(Stores.ROS2_HUMBLE)


def make(name, **values):
    return STORE.types[name](**values)


def header(stamp):
    time = make("builtin_interfaces/msg/Time", sec=stamp // 10**9, nanosec=stamp % 10**9)
    return make("std_msgs/msg/Header", stamp=time, frame_id="cam")


def image(stamp, encoding="rgb8", value=7):
    channels = {"rgb8": 3, "mono8": 1, "16UC1": 2, "32FC1": 4, "odd": 1}[encoding]
    data = np.full(6 * 8 * channels, value, np.uint8)
    return make(
        "sensor_msgs/msg/Image", header=header(stamp), height=6, width=8, encoding=encoding, is_bigendian=0,
        step=8 * channels, data=data,
    )  # fmt: skip


def info(stamp, k=50.0):
    region = make("sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    matrix = np.array([k, 0, 4, 0, k, 3, 0, 0, 1.0])
    return make(
        "sensor_msgs/msg/CameraInfo", header=header(stamp), height=6, width=8, distortion_model="plumb_bob",
        d=np.zeros(5), k=matrix, r=np.eye(3).flatten(), p=np.zeros(12), binning_x=0, binning_y=0, roi=region,
    )  # fmt: skip


def write(path, topics, storage=StoragePlugin.MCAP, mode=None):
    """Topics: name to list of messages, a tenth of a second apart."""
    writer = Writer2(path, version=9, storage_plugin=storage)
    if mode is not None:
        writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        for name, messages in topics.items():
            connection = writer.add_connection(name, messages[0].__msgtype__, typestore=STORE)
            for number, message in enumerate(messages):
                stamp = 10**9 + number * 10**8
                writer.write(connection, stamp, STORE.serialize_cdr(message, message.__msgtype__))
    return path


def camera(count=4, **changes):
    stamps = [10**9 + i * 10**8 for i in range(count)]
    return {"/cam/image": [image(s, **changes) for s in stamps], "/cam/camera_info": [info(s) for s in stamps]}


@pytest.mark.parametrize("storage", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
@pytest.mark.parametrize("mode", [None, CompressionMode.FILE, CompressionMode.MESSAGE, CompressionMode.STORAGE])
def test_every_storage_and_compression_reads_the_same(tmp_path, storage, mode):
    if storage == StoragePlugin.SQLITE3 and mode == CompressionMode.STORAGE:
        pytest.skip("sqlite3 has no storage-level compression")
    with Bag(write(tmp_path / "bag", camera(), storage, mode)) as bag:
        topic = bag.choose("image", None, "--image-topic")
        assert (topic.name, topic.count, topic.kind) == ("/cam/image", 4, "image")
        assert topic.rate == pytest.approx(10)
        frames = list(bag.images(topic))
        assert [f.stamp for f in frames] == [10**9 + i * 10**8 for i in range(4)]
        assert all((f.image == 7).all() and f.image.shape == (6, 8, 3) and f.frame_id == "cam" for f in frames)
        assert bag.calibration(bag.camera_info_for(topic)).k[0] == 50


def test_a_ros1_bag_reads_the_same(tmp_path):
    store = get_typestore(Stores.ROS1_NOETIC)
    path = tmp_path / "old.bag"
    types = store.types
    head = types["std_msgs/msg/Header"](seq=0, stamp=types["builtin_interfaces/msg/Time"](5, 7), frame_id="cam")
    made = types["sensor_msgs/msg/Image"](head, 2, 2, "mono8", 0, 2, np.arange(4, dtype=np.uint8))
    with Writer1(path) as writer:
        connection = writer.add_connection("/image", made.__msgtype__, typestore=store)
        writer.write(connection, 5 * 10**9, store.serialize_ros1(made, made.__msgtype__))
    with open_source(path) as source:
        (frame,) = source.frames
    assert frame.stamp == 5_000_000_007
    assert frame.image[..., 0].tolist() == [[0, 1], [2, 3]]


def test_a_file_of_a_bag_stands_for_the_bag(tmp_path):
    path = write(tmp_path / "bag", camera())
    with Bag(next(path.glob("*.mcap"))) as bag:
        assert len(bag.topics) == 2


def test_depth_is_told_from_pictures_by_its_encoding(tmp_path):
    topics = camera() | {"/depth": [image(10**9, "16UC1")], "/depth_m": [image(10**9, "32FC1")]}
    with Bag(write(tmp_path / "bag", topics)) as bag:
        assert bag.choose("image", None, "--image-topic").name == "/cam/image"
        with pytest.raises(BagError, match=r"several depth topics, choose one with --depth-topic: /depth, /depth_m"):
            bag.choose("depth", None, "--depth-topic")
        assert bag.choose("depth", "/depth", "--depth-topic").name == "/depth"
        stamp, depth = next(bag.depths("/depth"))
        assert stamp == 10**9
        assert depth == pytest.approx(0x0707 / 1000)


def test_compressed_depth_is_no_picture(tmp_path):
    packed = make(
        "sensor_msgs/msg/CompressedImage",
        header=header(10**9),
        format="16UC1; compressedDepth png",
        data=np.zeros(4, np.uint8),
    )
    with Bag(write(tmp_path / "bag", camera() | {"/depth/compressedDepth": [packed]})) as bag:
        assert bag.choose("image", None, "--image-topic").name == "/cam/image"


def test_several_cameras_are_listed_with_the_flag(tmp_path):
    topics = camera() | {"/left/image": [image(10**9)], "/left/camera_info": [info(10**9, 60.0)]}
    with Bag(write(tmp_path / "bag", topics)) as bag:
        with pytest.raises(BagError, match=r"choose one with --image-topic: /cam/image, /left/image"):
            bag.choose("image", None, "--image-topic")
        left = bag.choose("image", "/left/image", "--image-topic")
        assert bag.camera_info_for(left) == "/left/camera_info"
        with pytest.raises(BagError, match="has no image topic /right"):
            bag.choose("image", "/right", "--image-topic")


def test_a_wrong_encoding_names_bag_topic_and_frame(tmp_path):
    with Bag(write(tmp_path / "bag", {"/image": [image(10**9), image(10**9, "odd")]})) as bag:
        topic = bag.choose("image", None, "--image-topic")
        with pytest.raises(BagError, match=r"/image, frame 1: unknown image encoding 'odd'"):
            list(bag.images(topic))


def test_an_uncalibrated_camera_in_a_bag_says_so(tmp_path):
    with (
        Bag(write(tmp_path / "bag", {"/camera_info": [info(10**9, 0.0)]})) as bag,
        pytest.raises(BagError, match="not calibrated"),
    ):
        bag.calibration("/camera_info")


def test_missing_empty_and_damaged_bags_say_so_in_one_line(tmp_path):
    with pytest.raises(BagError, match="does not exist"):
        Bag(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BagError, match="cannot be opened"):
        Bag(tmp_path / "empty")
    whole = write(tmp_path / "whole", camera(40))
    file = next(whole.glob("*.mcap"))
    file.write_bytes(file.read_bytes()[:900])
    with pytest.raises(BagError) as error:
        Bag(whole)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("storage", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_garbage_in_the_middle_ends_the_bag_with_a_bag_error(tmp_path, storage):
    mode = CompressionMode.STORAGE if storage == StoragePlugin.MCAP else None
    topics, rng = camera(200), np.random.default_rng(0)
    for picture in topics["/cam/image"]:  # noise does not compress, so that the middle of the file is data
        picture.data[:] = rng.integers(0, 256, picture.data.shape)
    path = write(tmp_path / "bag", topics, storage, mode)
    file = next(p for p in path.iterdir() if p.suffix in (".mcap", ".db3"))
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = bytes(range(250)) * 8
    file.write_bytes(content)
    with pytest.raises(BagError, match="damaged|cannot be opened"), Bag(path) as bag:
        for topic in bag.topics:
            list(bag.messages(topic.name))


def test_a_folder_without_pictures_says_what_it_looked_for(tmp_path):
    with pytest.raises(SourceError, match=r"neither a bag \(metadata.yaml\) nor images"), open_source(tmp_path):
        pass


@pytest.mark.parametrize("name", ["broken.jpg", "broken.mp4"])
def test_broken_files_say_so(tmp_path, name):
    (tmp_path / name).write_bytes(b"nothing of the kind")
    with pytest.raises(SourceError, match="cannot be"), open_source(tmp_path / name) as source:
        list(source.frames)


def test_a_folder_is_read_in_order_of_names(tmp_path):
    import cv2

    for value in (30, 10, 20):
        cv2.imwrite(str(tmp_path / f"{value}.png"), np.full((4, 5, 3), value, np.uint8))
    with open_source(tmp_path) as source:
        assert source.count == 3
        assert [(f.name, int(f.image[0, 0, 0])) for f in source.frames] == [("10", 10), ("20", 20), ("30", 30)]
