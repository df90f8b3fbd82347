"""The sessions of a served environment: who may have how many, and what all of them share."""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from dig_env.envs.dig import DiGEnv
from dig_env.envs.pairs import FreshPairs, PairCache, PairSource, SharedPairs, StoredPairs
from dig_env.scenes import QUALITIES, STAGES, Renderer, RenderSettings, pair_seed_range
from dig_env.scenes.arguments import one_of, real

OPTIONS = ("stage", "width", "height", "quality", "coordinates", "reward", "split", "dataset")
"""What a client may choose; device and number of workers are the server's."""
FAMILIES = tuple(dict.fromkeys(stage.family for stage in STAGES.values()))
"""The worlds that may be asked for. Any other name could be the path of a folder."""


@dataclass(frozen=True)
class Limits:
    """What a server allows. A client is an address.

    Attributes:
        sessions: open at once.
        sessions_per_client: open at once from one client.
        idle_s: a session that nobody used for so many seconds is closed.
        pixels: width times height of an image, at most.
        requests_per_s: of one client, on average; a second's worth may come at once.
        body_bytes: of one request.
        body_s: seconds in which it must have arrived.
    """

    sessions: int = 256
    sessions_per_client: int = 128
    idle_s: float = 1800.0
    pixels: int = 640 * 480
    requests_per_s: float = 500.0
    body_bytes: int = 2**20
    body_s: float = 30.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            real(name, value, 0, above=True)


class Refusal(Exception):
    """A request that is not granted.

    Attributes:
        status: of HTTP.
        name: what kind of error the client is told.
        retry_after_s: whole seconds after which it may be granted; 0 says nothing of that.
    """

    def __init__(
        self, status: int, message: str, name: str = "Refused", retry_after_s: int = 0
    ) -> None:
        super().__init__(message)
        self.status, self.name, self.retry_after_s = status, name, retry_after_s


class Rates:
    """How fast each client asks: a token bucket for each.

    Args:
        per_s: requests a second.
    """

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._buckets: dict[str, tuple[float, float]] = {}

    def count(self, client: str) -> None:
        """Count a request; raises Refusal where it comes too early."""
        now, most = monotonic(), max(1.0, self._per_s)
        if len(self._buckets) > 10_000:  # a second after its last request, a client's is full
            self._buckets = {
                name: bucket for name, bucket in self._buckets.items() if now - bucket[1] < 1.0
            }
        left, then = self._buckets.get(client, (most, now))
        left = min(most, left + (now - then) * self._per_s)
        if left < 1.0:
            self._buckets[client] = (left, now)
            raise Refusal(
                429,
                f"more than {self._per_s:g} requests a second from {client}: wait as Retry-After "
                "says",
                "TooManyRequests",
                retry_after_s=max(1, round((1.0 - left) / self._per_s)),
            )
        self._buckets[client] = (left - 1.0, now)


@dataclass
class _Session:
    env: DiGEnv
    client: str
    used: float
    lock: threading.Lock = field(default_factory=threading.Lock)


class Sessions:
    """Environments by name, which share the Blender workers, the datasets and the latest pairs.

    Workers start with the first session that renders. There are as many for each quality
    that is asked for, since a Blender keeps to one.

    Args:
        workers: Blender processes; None for one a CPU core, if they fit in memory.
        device: "auto", "cpu" or "gpu".
        datasets: folders that ``dig-env render`` wrote, by the name that clients give.
        limits: see ``Limits``.
    """

    def __init__(
        self,
        workers: int | None = None,
        device: str = "auto",
        datasets: Mapping[str, Path] | None = None,
        limits: Limits = Limits(),
    ) -> None:
        self.limits = limits
        self._renderers = {
            quality: Renderer(RenderSettings(quality=quality, device=device), workers)
            for quality in QUALITIES
        }
        self._datasets = {name: folder.absolute() for name, folder in (datasets or {}).items()}
        self._stored: dict[tuple[str, str], PairSource] = {}
        self._cache = PairCache()
        self._sessions: dict[str, _Session] = {}
        self._lock = threading.Lock()

    @property
    def workers(self) -> dict[str, int]:
        """Blender processes of each quality; they start when it is first asked for."""
        return {quality: renderer.workers for quality, renderer in self._renderers.items()}

    def open(self, client: str, options: dict[str, Any]) -> tuple[str, tuple[int, int]]:
        """Start a session.

        Returns:
            Its name, and the (width, height) of its images.

        Raises:
            ValueError, TypeError: an option is unknown or not allowed.
            Refusal: there are too many sessions.
        """
        unknown = sorted(options.keys() - set(OPTIONS))
        if unknown:
            raise ValueError(
                f"unknown option {', '.join(map(repr, unknown))}: a session takes "
                f"{', '.join(OPTIONS)}"
            )
        options = _checked_stage(options)
        source = self._source(options)
        env = DiGEnv(
            dataset=source, **{k: v for k, v in options.items() if k not in ("dataset", "split")}
        )
        name = secrets.token_urlsafe(16)
        with self._lock:
            self._forget_idle()
            self._check_room(client)
            self._sessions[name] = _Session(env, client, monotonic())
        return name, (source.settings.width, source.settings.height)

    @contextlib.contextmanager
    def using(self, name: str) -> Iterator[DiGEnv]:
        """A session's environment, for one request at a time; raises Refusal otherwise."""
        with self._lock:
            self._forget_idle()
            session = self._found(name)
            if not session.lock.acquire(blocking=False):
                raise Refusal(
                    409, f"session {name} is at work: wait for the answer to the last request"
                )
        try:
            yield session.env
        finally:
            session.used = monotonic()
            session.lock.release()

    def checked_options(self, options: Any) -> dict[str, Any]:
        """Options of a reset, none of which opens a file; ValueError otherwise."""
        if options is not None and not isinstance(options, dict):
            raise ValueError(f"options={options!r}: give an object, such as {{'pair_seed': 7}}")
        return _checked_stage(options or {})

    def close_one(self, name: str) -> None:
        """End a session; raises Refusal if there is none of the name."""
        with self._lock:
            self._found(name)
            self._sessions.pop(name).env.close()

    def close(self) -> None:
        """End the workers."""
        for stored in self._stored.values():
            stored.close()
        for renderer in self._renderers.values():
            renderer.close()

    def without_paths(self, message: str) -> str:
        """A message in which datasets go by their names."""
        for name, folder in self._datasets.items():
            message = message.replace(str(folder), name)
        return message

    def _source(self, options: dict[str, Any]) -> SharedPairs:
        split, name = options.get("split", "train"), options.get("dataset")
        pair_seed_range(split)  # says which splits there are
        if name is None:
            quality = options.get("quality", "standard")
            one_of("quality", quality, QUALITIES)
            renderer = self._renderers[quality]
            size = {side: options[side] for side in ("width", "height") if side in options}
            settings = RenderSettings(**size, quality=quality, device=renderer.settings.device)
            if settings.width * settings.height > self.limits.pixels:
                raise ValueError(
                    f"{settings.width}x{settings.height} is more than the {self.limits.pixels} "
                    "pixels that this server renders: ask for smaller images"
                )
            return SharedPairs(FreshPairs(settings, split, renderer), self._cache)
        if name not in self._datasets:
            there = ", ".join(self._datasets) or "none"
            raise ValueError(
                f"unknown dataset {name!r}: the server offers {there}; leave it out for fresh pairs"
            )
        if (name, split) not in self._stored:
            opened = StoredPairs(self._datasets[name], split)  # without the lock: it is slow
            self._stored.setdefault((name, split), opened)
        return SharedPairs(self._stored[name, split], self._cache, name)

    def _check_room(self, client: str) -> None:
        limits = self.limits
        own = sum(session.client == client for session in self._sessions.values())
        if own >= limits.sessions_per_client:
            raise Refusal(
                429,
                f"{client} has {own} sessions, and {limits.sessions_per_client} are allowed: close "
                f"one; those that are left idle end after {limits.idle_s:g} s",
            )
        if len(self._sessions) >= limits.sessions:
            raise Refusal(
                503,
                f"the server has {limits.sessions} sessions, which is all that it allows: try "
                "again later",
            )

    def _found(self, name: str) -> _Session:
        if name not in self._sessions:
            raise Refusal(
                404,
                f"there is no session {name[:40]!r}: it was closed, or idle for more than "
                f"{self.limits.idle_s:g} s, or the server was restarted; make a new "
                "environment",
                "NoSession",
            )
        return self._sessions[name]

    def _forget_idle(self) -> None:
        oldest = monotonic() - self.limits.idle_s
        for name, session in list(self._sessions.items()):
            if session.used < oldest and not session.lock.locked():
                self._sessions.pop(name).env.close()


def _checked_stage(options: dict[str, Any]) -> dict[str, Any]:
    """The options, unless their stage names a world that is not in ``FAMILIES``."""
    stage = options.get("stage")
    if isinstance(stage, dict) and stage.get("family", FAMILIES[0]) not in FAMILIES:
        raise ValueError(
            f"family={stage['family']!r}: a server gives {', '.join(FAMILIES)}; worlds of your own "
            "are for environments on your own machine"
        )
    return options
