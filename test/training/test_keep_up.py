"""The best student of a fine-tune is kept, and every look that chose it is counted."""

from types import SimpleNamespace

import pytest
import torch

from ssmde_ros.training.finetune_config import FineTuneConfig
from ssmde_ros.training.holdout import Errors
from ssmde_ros.training.keep_up import KeepUp
from ssmde_ros.training.module import SelfDistillation


class Judged:
    """Frames on which the start errs by 0.3 and the student by what is asked for next."""

    def __init__(self, *errors):
        self.coming = list(errors)

    def errors(self, nets, pose_net, most):
        assert len(nets) == 2
        return [Errors(depth={(0, 0): 0.3}), Errors(depth={(0, 0): self.coming.pop(0)})]


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


def run(keep_up, minutes=(2, 4, 6), last=7):
    module = Student()
    for minute in minutes:
        module.train_to(minute)
        keep_up.on_train_batch_end(module._trainer, module)
    module.train_to(last)
    return module


def watching(*errors):
    return KeepUp(Judged(*errors), torch.nn.Identity(), FineTuneConfig())


def test_the_best_student_is_kept():
    module = run(keep_up := watching(0.25, 0.2, 0.22, 0.21))
    assert keep_up.choose(module) == pytest.approx(4)
    assert module.trained_to == 4


def test_the_last_one_is_kept_when_it_is_the_best():
    module = run(keep_up := watching(0.25, 0.2, 0.22, 0.19))
    assert keep_up.choose(module) is None
    assert module.trained_to == 7


def test_every_look_is_counted():
    module = run(keep_up := watching(0.25, 0.2, 0.22, 0.21))
    assert keep_up.choose(module) == pytest.approx(4)
    assert [after.depth[0, 0] for _, after in keep_up.looks] == [0.25, 0.2, 0.22, 0.21]


def test_what_was_kept_survives_a_checkpoint(tmp_path):
    run(before := watching(0.25, 0.2, 0.22))
    torch.save(before.state_dict(), tmp_path / "state")
    after = watching(0.21)
    after.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    module = run(after, minutes=(), last=9)
    assert after.choose(module) == pytest.approx(4)
    assert module.trained_to == 4
    assert after.looks[:-1] == before.looks


def test_a_ruinous_training_is_stopped_and_its_best_student_kept():
    module = run(keep_up := watching(0.29, 0.5, 0.6), minutes=(2, 4), last=5)
    assert module._trainer.should_stop
    assert keep_up.choose(module) == pytest.approx(2)


def test_waiting_counts_from_the_second_half_on():
    errors = [0.2, 0.21, 0.22, 0.21, 0.22, 0.21, 0.21, 0.21]
    module = run(watching(*errors), minutes=(10, 20, 30, 40, 50), last=50)
    assert not module._trainer.should_stop
    module = run(watching(*errors), minutes=(10, 20, 55, 60, 65, 70), last=70)
    assert module._trainer.should_stop
