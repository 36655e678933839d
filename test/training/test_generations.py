"""Generations: whole or not there, promoted or rejected, forward and back."""

import json
import shutil

import pytest

from ssmde_ros.training.generations import POINTER, RECORD, STUDENT, GenerationError, Generations, new_generation


@pytest.fixture
def generations(tmp_path):
    return Generations(tmp_path / "out")


@pytest.fixture
def add(generations, weights):
    def add(state="promoted", parent=None):
        number = generations.next_number()
        record = new_generation(number, "abc", parent, state=state, reason="measured", identity="def", gain=0.1)
        generations.add(record, lambda folder: shutil.copy(weights, folder / STUDENT))
        return record

    return add


def test_nothing_is_there_at_first(generations):
    assert generations.all() == []
    assert generations.current is None
    assert generations.latest_weights() is None
    assert generations.next_number() == 1
    with pytest.raises(GenerationError, match="no generation 0003; it has none"):
        generations.get(3)
    with pytest.raises(GenerationError, match="no promoted generation"):
        generations.rollback()


def test_a_promoted_generation_is_in_use_and_a_rejected_one_is_kept(generations, add):
    first = add()
    assert generations.current == first
    add("rejected", 1)
    assert generations.current == first
    assert [g.state for g in generations.all()] == ["promoted", "rejected"]
    assert generations.latest_weights() == generations.root / "0001" / STUDENT


def test_a_generation_that_cannot_be_written_leaves_nothing(generations, add):
    add()

    def write(folder):
        (folder / STUDENT).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    record = new_generation(2, "abc", 1, state="promoted", reason="", identity="", gain=0.0)
    with pytest.raises(GenerationError, match="0002 cannot be written: .*No space left"):
        generations.add(record, write)
    assert [p.name for p in sorted(generations.root.iterdir())] == ["0001", POINTER]
    assert generations.current.number == 1


def test_a_number_is_taken_once(generations, add):
    add()
    record = new_generation(1, "abc", None, state="promoted", reason="", identity="", gain=0.0)
    with pytest.raises(GenerationError, match="exists already"):
        generations.add(record, lambda folder: None)


def test_back_and_forth(generations, add):
    add()
    add("promoted", 1)
    assert generations.rollback().number == 1
    assert generations.current.number == 1
    assert generations.get(2).state == "retired"
    assert generations.rollback() is None
    assert generations.current is None
    assert generations.promote(2).state == "promoted"
    assert generations.current.number == 2


def test_weights_that_cannot_be_loaded_are_not_promoted(generations, add):
    add()
    add("rejected", 1)
    (generations.folder(2) / STUDENT).write_bytes(b"rubbish")
    with pytest.raises(GenerationError, match="0002 is not promoted: .*cannot be read"):
        generations.promote(2)
    assert generations.current.number == 1


def test_prune_keeps_what_is_in_use_and_its_ancestors(generations, add):
    add()
    add("rejected", 1)
    add("promoted", 1)
    add("rejected", 3)
    add("rejected", 3)
    assert [g.number for g in generations.prune(keep=1)] == [2, 4]
    assert [g.number for g in generations.all()] == [1, 3, 5]
    assert generations.next_number() == 6


def test_prune_keeps_at_least_what_it_is_told_to_and_the_parents_of_that(generations, add):
    add()
    add("promoted", 1)
    add("promoted", 2)
    generations.rollback()
    generations.rollback()
    assert generations.prune(keep=3) == [], "there are two"
    assert generations.prune(keep=1) == [], "the one that stays descends from the other"
    assert [g.number for g in generations.prune()] == [2, 3]


def test_a_folder_without_its_record_is_no_generation(generations, add):
    add()
    (generations.root / "0002").mkdir()
    assert [g.number for g in generations.all()] == [1]


@pytest.mark.parametrize("text", ["rubbish", "{}", json.dumps({"number": 1})])
def test_a_damaged_record_is_named(generations, add, text):
    add()
    (generations.folder(1) / RECORD).write_text(text)
    with pytest.raises(GenerationError, match=r"generation.json cannot be read"):
        generations.all()


def test_a_damaged_pointer_is_named(generations, add):
    add()
    (generations.root / POINTER).write_text("?")
    with pytest.raises(GenerationError, match="not the number of a generation"):
        _ = generations.current
