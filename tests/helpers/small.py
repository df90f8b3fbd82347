"""The size at which the tests render, a tenth of a second a pair, and the pairs that most see."""

from dig_env.agents.evaluation.pairs import pair_seeds
from dig_env.scenes import PAPER_STAGES, STAGES, Pair, RenderSettings, plan_pair

SMALL_ENV = {"width": 128, "height": 96, "quality": "draft", "device": "cpu"}
SMALL = RenderSettings(**SMALL_ENV)
PAIRS_PER_STAGE = 40


def evaluation_pairs(renderer, count=PAIRS_PER_STAGE) -> dict[str, list[Pair]]:
    rendered = {}
    for stage in PAPER_STAGES:
        seeds = pair_seeds(0, "test")
        plans = (plan_pair(next(seeds), STAGES[stage]) for _ in range(count))
        rendered[stage] = list(renderer.imap(plans))
    return rendered
