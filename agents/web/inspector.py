"""Browse the pairs of a dataset, or of an evaluation with their answers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from dig_env import resolve_reward, score
from dig_env.agents.reporting.pages import render_page
from dig_env.agents.web.server import outcome, truth_of, web_app
from dig_env.drawing import png
from dig_env.envs.pairs import PairCache, pair_source
from dig_env.scenes import CHANGES, STAGES, Pair, PairDataset, resolve_stage
from dig_env.scenes.extras import extra

with extra("play"):
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import HTMLResponse, Response
    from starlette.routing import Route

PAIRS_A_PAGE = 12
PAIRS_KEPT = 64


@dataclass(frozen=True)
class Entry:
    """A pair to look at.

    Attributes:
        pair_seed, stage, changes: which pair, and what differs in it.
        episode: what an evaluation kept of it, see ``Episode.to_json``; None in a dataset.
    """

    pair_seed: int
    stage: str
    changes: tuple[str, ...]
    episode: dict[str, Any] | None = None


class Collection:
    """Entries, and where their pictures come from.

    Args:
        title: for people.
        entries: in the order in which they are shown.
        evaluation: of which they are; None for a dataset.
        dataset: folder of the pairs; None renders them as ``evaluation`` says.
    """

    def __init__(
        self,
        title: str,
        entries: list[Entry],
        evaluation: dict[str, Any] | None,
        dataset: Path | None,
    ) -> None:
        self.title, self.entries, self.evaluation = title, entries, evaluation
        self.by_seed = {entry.pair_seed: entry for entry in entries}
        asked = {}
        if dataset is None and evaluation is not None:
            width, height = evaluation["size"]
            asked = {"width": width, "height": height, "quality": evaluation["quality"]}
        self._stages = STAGES if dataset is None else PairDataset(dataset).stages
        self._source = pair_source(asked, dataset, "test", workers=1)
        self.size = (self._source.settings.width, self._source.settings.height)
        # Two images are asked for one after the other, and then the pair once more for its boxes.
        self._cache = PairCache(PAIRS_KEPT)

    def pair(self, entry: Entry) -> Pair:
        """The pair of an entry: read from disk, or rendered again."""
        _, difficulty = resolve_stage(entry.stage, self._stages)
        return self._cache.get(
            entry.pair_seed, lambda: self._source.submit(entry.pair_seed, difficulty)
        ).result()

    def close(self) -> None:
        """End Blender or the reading threads."""
        self._source.close()


def open_collection(path: Path) -> Collection:
    """Open a folder of ``dig-env render`` or a file of ``dig-env eval --out``.

    Raises:
        FileNotFoundError: there is neither, or the evaluation's dataset is gone.
        ValueError: it is damaged, or something else.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"there is no {path}: give a folder that 'dig-env render' wrote, or a file of 'dig-env "
            "eval --out'"
        )
    if path.is_dir():
        dataset = PairDataset(path)
        entries = [
            Entry(seed, dataset.stage_of(seed), tuple(changes))
            for seed, changes in dataset.changes().items()
        ]
        return Collection(str(path), entries, None, path)
    try:
        result = json.loads(path.read_bytes())
        stage, source = result["stage"], result["source"]
        entries = [
            Entry(episode["pair_seed"], stage, tuple(episode["changes"]), episode)
            for episode in result["answers"]
        ]
        title = f"{result['policy']} on {result['split']}/{stage}"
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is no result of 'dig-env eval --out' ({error!r}): give one, or a folder that "
            "'dig-env render' wrote"
        ) from error
    return Collection(title, entries, result, None if source == "fresh" else Path(source))


@dataclass(frozen=True)
class Filter:
    """Which entries to show; an empty field filters nothing.

    Attributes:
        stage, change: the stage, and a change type that is among the pair's.
        low, high: least and greatest reward.
    """

    stage: str = ""
    change: str = ""
    low: str = ""
    high: str = ""

    @classmethod
    def of(cls, request: Request) -> Filter:
        """That of a page's address."""
        return cls(**{name: request.query_params.get(name, "") for name in cls.__annotations__})

    def chosen(self, entries: list[Entry]) -> list[Entry]:
        """The entries that pass.

        Raises:
            ValueError: a bound of the reward is no number.
        """
        try:
            low, high = float(self.low or "-inf"), float(self.high or "inf")
        except ValueError as error:
            raise ValueError(f"reward from {self.low} to {self.high}: give numbers") from error
        return [
            entry
            for entry in entries
            if self.stage in ("", entry.stage)
            and (not self.change or self.change in entry.changes)
            and (entry.episode is None or low <= entry.episode["reward"] <= high)
        ]

    def query(self, **further: object) -> str:
        """The address of what is shown, from its ``?`` on."""
        fields = {name: value for name, value in (vars(self) | further).items() if value != ""}
        return f"?{urlencode(fields)}" if fields else ""


def inspector_app(collection: Collection) -> Starlette:
    """The pages: a list with filters, and one for each pair."""

    def listing(request: Request) -> Response:
        shown = Filter.of(request)
        chosen = shown.chosen(collection.entries)
        pages = max(1, -(-len(chosen) // PAIRS_A_PAGE))
        page = min(max(1, int(request.query_params.get("page", 1))), pages)
        present = {change for entry in collection.entries for change in entry.changes}
        html = render_page(
            "inspector.html",
            collection=collection,
            filter=shown,
            stages=list(dict.fromkeys(entry.stage for entry in collection.entries)),
            changes=[change for change in CHANGES if change in present],
            chosen=len(chosen),
            entries=chosen[(page - 1) * PAIRS_A_PAGE : page * PAIRS_A_PAGE],
            page=page,
            pages=pages,
        )
        return HTMLResponse(html)

    def pair(request: Request) -> Response:
        shown, entry = Filter.of(request), _entry(collection, request)
        chosen = shown.chosen(collection.entries)
        place = chosen.index(entry) if entry in chosen else -1
        html = render_page(
            "inspector_pair.html",
            collection=collection,
            filter=shown,
            entry=entry,
            place=place,
            chosen=len(chosen),
            page=max(0, place) // PAIRS_A_PAGE + 1,
            before=chosen[place - 1] if place > 0 else None,
            after=chosen[place + 1] if 0 <= place < len(chosen) - 1 else None,
            outcome=_description(collection, entry),
        )
        return HTMLResponse(html)

    def image(request: Request) -> Response:
        pixels = collection.pair(_entry(collection, request))
        which = pixels.image_a if request.path_params["which"] == "a" else pixels.image_b
        return Response(png(which, compress_level=1), media_type="image/png")

    return web_app(
        [
            Route("/", listing),
            Route("/pair/{pair_seed:int}", pair),
            Route("/image/{pair_seed:int}/{which}.png", image),
        ]
    )


def _entry(collection: Collection, request: Request) -> Entry:
    pair_seed = request.path_params["pair_seed"]
    if pair_seed not in collection.by_seed:
        raise ValueError(f"{collection.title} has no pair {pair_seed}")
    return collection.by_seed[pair_seed]


def _description(collection: Collection, entry: Entry) -> dict[str, Any]:
    """The pair's truth and, in an evaluation, its answer; see ``server.outcome``."""
    pair, evaluation = collection.pair(entry), collection.evaluation
    if evaluation is None or entry.episode is None:
        return {"truth": truth_of(pair), "boxes": []}
    config = resolve_reward(evaluation["reward_name"])
    result = score(
        entry.episode["answer"],
        pair.boxes_unit,
        config,
        coordinates=evaluation["coordinates"],
        size=collection.size,
        answers=evaluation["dialect"],
    )
    return outcome(pair, result, config)
