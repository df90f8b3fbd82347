"""check_curriculum passes what keeps its rules, and tells what does not which one it breaks."""

import itertools
import math
import random
import warnings

import numpy as np
import pytest

from dig_env import Curriculum, EasyToHard, RandomCurriculum, ScheduledCurriculum
from dig_env.curricula.adaptive import AdaptiveDifficulty, LearningProgress, PrioritizedStageReplay
from dig_env.testing import check_curriculum


@pytest.fixture(autouse=True)
def advice_is_an_error():
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*WARN: ")
        yield


# Curricula that pass


@pytest.mark.parametrize(
    "make",
    [
        Curriculum,
        lambda: Curriculum(window=8, promote_at=0.7, demote_below=0.3),
        lambda: Curriculum(("mixed",)),
        lambda: ScheduledCurriculum(episodes=(100, 100)),
        RandomCurriculum,
        lambda: EasyToHard(episodes=500),
        AdaptiveDifficulty,
        LearningProgress,
        PrioritizedStageReplay,
    ],
)
def test_our_own_curricula_pass(make):
    check_curriculum(make)


def test_a_curriculum_that_stays_at_one_of_its_stages_is_a_warning():
    with pytest.warns(UserWarning, match="chose 'single' for all of 600 episodes"):
        check_curriculum(ScheduledCurriculum)
    check_curriculum(ScheduledCurriculum, episodes=2000)


# Curricula that do not


class Short(Curriculum):
    """Changes often, so that every rule is put to the test."""

    def __init__(self) -> None:
        super().__init__(window=8, demote_below=0.3)


class Choosing:
    def choose(self):
        return "single"


class ListOfStages(Short):
    def __init__(self):
        super().__init__()
        self.stages = list(self.stages)


class ChoosesWhatItHasNot(Short):
    def choose(self):
        return "triple"


class RefusesOtherStages(Short):
    def update(self, reward, stage=None):
        return super().update(reward, self.stages[self.stages.index(stage or self.stage)])


class TellsTheStage(Short):
    def update(self, reward, stage=None):
        super().update(reward, stage)
        return self.stage


class TellsNothing(Short):
    def update(self, reward, stage=None):
        super().update(reward, stage)


class TakesAnyReward(Short):
    def update(self, reward, stage=None):
        return super().update(reward, stage) if math.isfinite(reward) else None


class ChecksKnownStagesOnly(Short):
    def update(self, reward, stage=None):
        return super().update(reward, stage) if stage in (None, *self.stages) else None


class CountsBeforeItRefuses(Short):
    def update(self, reward, stage=None):
        self._episodes += not math.isfinite(reward)
        return super().update(reward, stage)


class Zero(Short):
    mean = 0.0


class Sum(Short):
    @property
    def mean(self):
        return math.fsum(self.rewards) if self.rewards else None


class Forgetful(Short):
    @property
    def history(self):
        return super().history[-1:]


class Lists(Short):
    @property
    def history(self):
        return [list(change) for change in super().history]


class Stages(Short):
    """Tuples are no JSON."""

    def state_dict(self):
        return super().state_dict() | {"stages": self.stages}


class Float32(Short):
    def state_dict(self):
        return super().state_dict() | {"scale": np.float32(1.0)}


class NotANumber(Short):
    def state_dict(self):
        return super().state_dict() | {"best": math.nan}


class Logging(Short):
    """Keeps what it was told, and hands out and takes in copies."""

    def __init__(self):
        super().__init__()
        self.log = []

    def update(self, reward, stage=None):
        entered = super().update(reward, stage)
        self.log.append(reward)
        return entered

    def state_dict(self):
        return super().state_dict() | {"log": list(self.log)}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.log = list(state["log"])


class HandsOutItsOwnList(Logging):
    def state_dict(self):
        return super().state_dict() | {"log": self.log}


class TakesInTheList(Logging):
    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.log = state["log"]


class GlobalRandom(RandomCurriculum):
    def choose(self):
        return random.choice(self.stages)


class GlobalNumpy(RandomCurriculum):
    def choose(self):
        return self.stages[np.random.randint(3)]  # noqa: NPY002


class Lookers(Curriculum):
    """Draws another stage whenever somebody looks at the mean."""

    def __init__(self):
        super().__init__(window=8)
        self.looks = 0

    @property
    def mean(self):
        self.looks += 1
        return super().mean

    def choose(self):
        return self.stages[self.looks % 3]


class SharedRewards(Short):
    """A mutable default that all instances share."""

    def __init__(self, rewards=[]):  # noqa: B006
        super().__init__()
        self.rewards = rewards


class WithoutGenerator(RandomCurriculum):
    def state_dict(self):
        return {key: val for key, val in super().state_dict().items() if key != "generator"}

    def load_state_dict(self, state):
        super().load_state_dict(state | {"generator": self._rng.bit_generator.state})


class AddsHistories(Short):
    def load_state_dict(self, state):
        before = self._history
        super().load_state_dict(state)
        self._history = before + self._history


class ListsAfterLoading(Short):
    def load_state_dict(self, state):
        super().load_state_dict(state)
        self._history = [list(change) for change in state["history"]]


class RefusesItsOwn(Short):
    def load_state_dict(self, state):
        raise ValueError("no")


class TakesAnyKind(Short):
    def load_state_dict(self, state):
        super().load_state_dict(state | {"kind": self.kind})


class StumblesOverOtherKinds(Logging):
    def load_state_dict(self, state):
        self.log = list(state["log"])
        super().load_state_dict(state)


class TakesAnyStages(Short):
    def load_state_dict(self, state):
        stage = state["stage"] if state["stage"] in self.stages else self.stage
        super().load_state_dict(state | {"stages": list(self.stages), "stage": stage})


class LoadsBeforeItChecks(Short):
    def load_state_dict(self, state):
        self._episodes = state["episodes"] + (state["kind"] != self.kind)
        super().load_state_dict(state)


class Numbers(Short):
    """Knows its stages by number only."""

    def state_dict(self):
        changes = [[n, self.stages.index(a), self.stages.index(b)] for n, a, b in self.history]
        state = {"stages": len(self.stages), "stage": self.index, "history": changes}
        return super().state_dict() | state

    def load_state_dict(self, state):
        if state["kind"] != self.kind:
            raise ValueError("another kind")
        names = self.stages
        changes = [[n, names[a], names[b]] for n, a, b in state["history"]]
        known = {"stages": list(names), "stage": names[state["stage"]], "history": changes}
        super().load_state_dict(state | known)


SEEDS = itertools.count()
ONE = Short()


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda: ONE, "make returned one object twice"),
        (Choosing, "Choosing has no stages"),
        (ListOfStages, r"stages is \['single', 'dual', 'mixed'\]; it must be a tuple"),
        (ChoosesWhatItHasNot, r"choose\(\) returned 'triple'; stages is \('single'"),
        (RefusesOtherStages, r"update\(.*, 'not single or dual or mixed'\) raised ValueError"),
        (TellsTheStage, "returned 'single', and the latest change in history is to None"),
        (TellsNothing, "returned None, and the latest change in history is to 'dual'"),
        (TakesAnyReward, r"update\(nan, None\) took it; a reward that is not finite"),
        (ChecksKnownStagesOnly, r"update\(nan, 'not single or dual or mixed'\) took it"),
        (CountsBeforeItRefuses, r"update\(nan, None\) was refused, and yet counted"),
        (Zero, "mean is 0.0 before the first reward; it must be None"),
        (Sum, r"mean is \d.*, which no rewards so far have as their mean"),
        (Forgetful, r"history is \[.*\] after \[.*; it must be a list of"),
        (Lists, r"history has \[\d+, 'single', 'dual'\]"),
        (Stages, "state_dict.. does not survive JSON.*lists in place of tuples"),
        (Float32, "state_dict.. is no JSON .*float32"),
        (NotANumber, "state_dict.. is no JSON .*nan"),
        (HandsOutItsOwnList, "a state_dict changed with the curriculum"),
        (TakesInTheList, "the state given to load_state_dict changed later"),
        (GlobalRandom, "global generator of random or numpy.random"),
        (GlobalNumpy, "global generator of random or numpy.random"),
        (lambda: RandomCurriculum(seed=next(SEEDS)), "of one made alike and called alike"),
        (Lookers, "of one made alike and called alike"),
        (SharedRewards, "of one made alike and called alike"),
        (WithoutGenerator, "of one that went back to a state"),
        (AddsHistories, "history is .* of one that went back to a state"),
        (ListsAfterLoading, "history is .* of a new one"),
        (RefusesItsOwn, "load_state_dict refused its own state: ValueError"),
        (TakesAnyKind, "load_state_dict took a state of another kind"),
        (StumblesOverOtherKinds, "load_state_dict raised KeyError.* on a state of another kind"),
        (TakesAnyStages, "load_state_dict took a state of other stages"),
        (LoadsBeforeItChecks, "refused a state of another kind, and changed the curriculum"),
        (Numbers, "state_dict.. does not name the stages"),
    ],
)
def test_a_curriculum_that_breaks_a_rule_is_told_which(broken, message):
    with pytest.raises(AssertionError, match=message):
        check_curriculum(broken)


def test_what_the_broken_ones_are_made_of_is_sound():
    check_curriculum(Short)
    check_curriculum(Logging)


def test_the_check_itself_leaves_the_global_generators_alone():
    before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    check_curriculum(RandomCurriculum)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # noqa: NPY002
