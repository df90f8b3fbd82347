"""Pairs that verl draws while it trains, at the stages of a curriculum, within one run.

Its settings, ``data.*``, are those of the export's live.sh. verl (0.9) reads data and scores
answers in processes of their own, and its trainer tells the data set nothing of the rewards. So
pairs and curriculum live in one Ray actor: the data set asks it for each row, and
``integrations.verl.compute_score`` tells it each reward.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ray
from hydra.utils import instantiate
from omegaconf import OmegaConf
from verl.utils.dataset.rl_dataset import RLHFDataset

from dig_env.agents.integrations.live import LiveSettings, PairActor
from dig_env.agents.integrations.verl import LIVE_PAIRS

FRESH = "fresh"
"""In place of a file: pairs are rendered as they are asked for."""


class _Rows:
    """An epoch's rows, each drawn when it is asked for, whatever the index."""

    def __init__(self, actor: Any, count: int) -> None:
        self.actor, self._count = actor, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> dict[str, Any]:
        return ray.get(self.actor.row.remote())


class LiveDataset(RLHFDataset):
    """verl's data set whose rows are drawn; where it is given Parquet, verl's as it is.

    Raises:
        ValueError: ``data.dataloader_num_workers`` is not 0. Forked processes cannot use Ray.
    """

    def _read_files_and_tokenize(self) -> None:
        if str(self.data_files[0]).endswith(".parquet"):
            super()._read_files_and_tokenize()
            return
        if self.config.dataloader_num_workers:
            raise ValueError(
                f"data.dataloader_num_workers={self.config.dataloader_num_workers}: give 0, since "
                "the processes that it forks cannot ask Ray for pairs"
            )
        (folder,) = self.data_files
        settings = LiveSettings(**OmegaConf.to_container(self.config.dig, resolve=True))
        actor = (
            ray.remote(num_cpus=settings.workers, resources=settings.resources)(PairActor)
            .options(name=LIVE_PAIRS)
            .remote(
                None if folder == FRESH else folder,
                instantiate(settings.curriculum, _convert_="all"),
                settings,
            )
        )
        self.dataframe = _Rows(actor, settings.count)

    def state_dict(self) -> dict[str, Any]:
        """What verl saves in ``data.pt`` beside the data loader's own state."""
        is_live = isinstance(self.dataframe, _Rows)
        return ray.get(self.dataframe.actor.state_dict.remote()) if is_live else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a ``state_dict``."""
        if state:
            ray.get(self.dataframe.actor.load_state_dict.remote(state))
