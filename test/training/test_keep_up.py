"""The best student of a fine-tune is kept, and every look that chose it is counted."""

from types import SimpleNamespace

import pytest
import torch

from ssmde_ros.training.finetune_config import FineTuneConfig
from ssmde_ros.training.holdout import Errors
from ssmde_ros.training.keep_up import KeepUp
from ssmde_ros.training.module import SelfDistillation


class Judged:
    """Frames on which the start errs by 0.3, and a student by what its one weight says."""

    def __init__(self, errors):
        self.errors_of = errors

    def errors(self, nets, pose_net, most=120, title=""):
        return [Errors(depth={(0, 0): self.errors_of(net.weight.item()) if n else 0.3}) for n, net in enumerate(nets)]


class Student(SelfDistillation):
    """One weight, which tells how often it was trained."""

    def __init__(self):
        torch.nn.Module.__init__(self)
        self.averaged, self.pose_net = torch.nn.Linear(1, 1, bias=False), torch.nn.Identity()
        self.elapsed, self._trainer = 0.0, SimpleNamespace(training=False, should_stop=False)
        self.config = SimpleNamespace(run=SimpleNamespace(minutes=100.0, steps=1000))

    global_step = 0

    def log(self, *_):
        """Nowhere."""

    def train_to(self, minute):
        self.elapsed = 60.0 * minute
        torch.nn.init.constant_(self.averaged.weight, minute)

    @property
    def trained_to(self):
        return self.averaged.weight.item()


def run(keep_up, minutes=(2, 4, 6), last=9):
    module = Student()
    for minute in minutes:
        module.train_to(minute)
        keep_up.on_train_batch_end(module._trainer, module)
    module.train_to(last)
    return module


def watching(errors):
    start = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(start.weight)
    return KeepUp(Judged(errors), start, FineTuneConfig())


def at(best):
    """The nearer the weight is to `best`, the better."""
    return lambda weight: 0.1 + 0.001 * abs(weight - best)


@pytest.mark.parametrize(
    ("best", "minute", "share"), [(9, 9, 1.0), (4.5, 9, 0.5), (2.3, 9, 0.25), (4, 4, 1.0), (3.1, 4, 0.75)]
)
def test_the_best_weights_are_kept_be_they_on_the_way_or_between(best, minute, share):
    module = run(keep_up := watching(at(best)))
    choice = keep_up.choose(module)
    assert choice.share == share
    assert choice.minute == pytest.approx(minute)
    assert module.trained_to == pytest.approx(minute * share)


class Objecting(Judged):
    """Points that say the farther the better, and a photometric error that says no beyond a weight."""

    def __init__(self, most):
        self.most = most

    def errors(self, nets, pose_net, most=120, title=""):
        found = []
        for net in nets:
            weight = net.weight.item()
            points, photometric = 0.3 - 0.01 * weight, 0.06 if weight > self.most else 0.05
            frames = [(0, i) for i in range(10)]
            found.append(Errors(points=dict.fromkeys(frames, points), photometric=dict.fromkeys(frames, photometric)))
        return found


@pytest.mark.parametrize(("most", "trained_to"), [(7, 6.75), (100, 9), (-1, 9)])
def test_weights_that_another_measure_would_keep_from_promotion_are_passed_over_where_that_helps(most, trained_to):
    keep_up = watching(None)
    keep_up.holdout = Objecting(most)
    module = run(keep_up, minutes=())
    keep_up.choose(module)
    assert module.trained_to == pytest.approx(trained_to)


def test_every_look_is_counted():
    module = run(keep_up := watching(at(4)))
    keep_up.choose(module)
    assert len(keep_up.looks) == 3 + 2 * 4, "three on the way, and four shares of each of two ends"
    found = [after.depth[0, 0] for _, after in keep_up.looks]
    assert found[:3] == pytest.approx([0.102, 0.1, 0.102])
    assert min(found) == pytest.approx(0.1)


def test_a_short_run_has_its_end_only():
    module = run(keep_up := watching(at(9)), minutes=())
    assert keep_up.choose(module).share == 1
    assert module.trained_to == 9
    assert len(keep_up.looks) == 4


def test_what_was_kept_survives_a_checkpoint(tmp_path):
    run(before := watching(at(4.4)))
    torch.save(before.state_dict(), tmp_path / "state")
    after = watching(at(4.4))
    after.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    assert after.looks == before.looks
    module = run(after, minutes=(), last=50)
    assert after.choose(module).minute == pytest.approx(4)
    assert module.trained_to == 4


def test_a_ruinous_training_is_stopped():
    module = run(watching(lambda weight: 0.2 + weight / 10), minutes=(2, 4), last=5)
    assert module._trainer.should_stop


def test_waiting_counts_from_the_second_half_on():
    module = run(watching(at(10)), minutes=(10, 20, 30, 40, 45, 50), last=50)
    assert not module._trainer.should_stop
    module = run(watching(at(10)), minutes=(10, 20, 55, 60, 65, 70), last=70)
    assert module._trainer.should_stop
