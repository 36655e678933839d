"""Every kind of damage: what is readable is read, what is lost is counted."""

import numpy as np
import pytest
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import CompressionMode, StoragePlugin
from rosbags.typesys import Stores, get_typestore

from ssmde_ros.data.bags import Bag, BagError
from test.data.test_bags import camera, image, make, write

STORAGES = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}


def noisy(count=200):
    """Frames that hardly compress, so that the middle of the file is data; the first pixel tells the number."""
    topics, rng = camera(count), np.random.default_rng(0)
    for number, picture in enumerate(topics["/cam/image"]):
        picture.height, picture.width, picture.step = 96, 128, 384
        picture.data = rng.integers(0, 32, 96 * 384, dtype=np.uint8)
        picture.data[0] = number
    return topics


def storage_file(path):
    return next(p for p in path.iterdir() if p.name != "metadata.yaml")


def frames(path):
    """Numbers of the frames that can be read, and the bag's own account of the damage."""
    with Bag(path, salvage=True) as bag:
        topic = bag.choose("image", None, "--image-topic")
        return [int(f.image[0, 0, 0]) for f in bag.images(topic)], bag.damage


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("mode", [None, CompressionMode.MESSAGE, CompressionMode.FILE])
def test_a_bag_that_breaks_off_is_read_to_the_break(tmp_path, storage, mode):
    path = write(tmp_path / "bag", noisy(), STORAGES[storage], mode)
    file = storage_file(path)
    content = file.read_bytes()
    file.write_bytes(content[: int(0.6 * len(content))])
    numbers, damage = frames(path)
    assert numbers == sorted(numbers)
    assert 60 < len(numbers) < 200
    assert damage.notes


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("mode", [None, CompressionMode.MESSAGE, CompressionMode.STORAGE])
def test_garbage_in_the_middle_costs_what_lies_there(tmp_path, storage, mode):
    if storage == "sqlite3" and mode == CompressionMode.STORAGE:
        pytest.skip("sqlite3 has no storage-level compression")
    path = write(tmp_path / "bag", noisy(200), STORAGES[storage], mode)
    file = storage_file(path)
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 20_000] = np.random.default_rng(1).bytes(20_000)
    file.write_bytes(content)
    with Bag(path, salvage=True) as bag:
        stamps = [f.stamp for f in bag.images(bag.choose("image", None, "--image-topic"))]
        lost = bag.damage.lost
    # A damaged chunk of an mcap is a megabyte; a damaged page of a table is 4 kB.
    if storage == "mcap" and mode is None:
        # Without a checksum, and rosbag2 writes none, pixels of noise are pixels.
        assert 190 < len(stamps) <= 200
    else:
        assert 100 < len(stamps) < 200
        assert lost > 0


def test_one_whole_split_is_read_when_another_is_garbage(tmp_path):
    path = write(tmp_path / "bag", noisy(20))
    good = storage_file(path)
    (path / "bag_1.mcap").write_bytes(b"nothing of the kind" * 100)
    text = (path / "metadata.yaml").read_text()
    line = next(line for line in text.splitlines() if good.name in line and line.strip().startswith("-"))
    (path / "metadata.yaml").write_text(text.replace(line, f"{line}\n{line.replace(good.name, 'bag_1.mcap')}", 1))
    numbers, damage = frames(path)
    assert numbers == list(range(20))
    assert any("bag_1.mcap" in note for note in damage.notes)


@pytest.mark.parametrize("storage", STORAGES)
def test_missing_metadata_costs_nothing(tmp_path, storage):
    path = write(tmp_path / "bag", noisy(20), STORAGES[storage])
    (path / "metadata.yaml").unlink()
    assert frames(path)[0] == list(range(20))


@pytest.mark.parametrize("garbage", ["", "rosbag2_bagfile_information: [1, 2", "version: 5"])
def test_damaged_metadata_costs_nothing(tmp_path, garbage):
    path = write(tmp_path / "bag", noisy(20))
    (path / "metadata.yaml").write_text(garbage)
    assert frames(path)[0] == list(range(20))


@pytest.mark.parametrize("compression", [None, Writer1.CompressionFormat.BZ2, Writer1.CompressionFormat.LZ4])
@pytest.mark.parametrize("damage", ["truncated", "garbage"])
def test_a_ros1_bag_is_read_around_its_damage(tmp_path, compression, damage):
    store, path = get_typestore(Stores.ROS1_NOETIC), tmp_path / "old.bag"
    types, rng = store.types, np.random.default_rng(0)
    writer = Writer1(path)
    if compression:
        writer.set_compression(compression)
    with writer:
        kind = "sensor_msgs/msg/Image"
        connection = writer.add_connection("/image", kind, typestore=store)
        for number in range(300):
            head = types["std_msgs/msg/Header"](number, types["builtin_interfaces/msg/Time"](5 + number, 0), "cam")
            data = rng.integers(0, 256, 120 * 160, dtype=np.uint8)
            message = types[kind](head, 120, 160, "mono8", 0, 160, data)
            writer.write(connection, (5 + number) * 10**9, store.serialize_ros1(message, kind))
    content = bytearray(path.read_bytes())
    middle = int(0.6 * len(content))
    if damage == "truncated":
        del content[middle:]
    else:
        content[middle : middle + 3000] = rng.bytes(3000)
    path.write_bytes(content)
    with Bag(path, salvage=True) as bag:
        stamps = [f.stamp // 10**9 - 5 for f in bag.images(bag.topics[0])]
    assert stamps == sorted(stamps)
    assert len(stamps) > 100


def test_nothing_readable_is_one_clear_line(tmp_path):
    path = write(tmp_path / "bag", noisy(20))
    storage_file(path).write_bytes(b"x" * 5000)
    with pytest.raises(BagError, match="no message in it can be salvaged") as error:
        Bag(path, salvage=True)
    assert "\n" not in str(error.value)


def test_frames_of_no_size_and_of_wrong_encodings_are_skipped_and_counted(tmp_path):
    pictures = [image(10**9 + i * 10**8) for i in range(6)]
    pictures[1].height = 0
    pictures[3].encoding = "odd"
    pictures[4].data = np.zeros(0, np.uint8)
    with Bag(write(tmp_path / "bag", {"/image": pictures}), salvage=True) as bag:
        assert len(list(bag.images(bag.topics[0]))) == 3
        assert bag.damage.lost == 3
        assert len(bag.damage.notes) == 3


def test_an_image_topic_of_another_type_is_no_image_topic(tmp_path):
    text = make("std_msgs/msg/String", data="no picture")
    with Bag(write(tmp_path / "bag", {"/camera/image": [text] * 3}), salvage=True) as bag:
        assert bag.choose("image", None, "--image-topic") is None


def test_a_window_of_a_bag_is_read_alone(tmp_path):
    for storage in STORAGES.values():
        path = write(tmp_path / storage.name, noisy(40), storage)
        with Bag(path, salvage=True) as bag:
            window = list(bag.images(bag.choose("image", None, "-"), 10**9 + 10**9, 10**9 + 2 * 10**9))
        assert [int(f.image[0, 0, 0]) for f in window] == list(range(10, 20))
