"""The reward "dig", for ms-swift's --external_plugins. Its options are in export.json."""

import json
from pathlib import Path

from swift.rewards import ORM, orms

from dig_env.agents.integrations import score_responses

# ms-swift's completions hold what the chat template wrote of the answer, so nothing opens them.
OPTIONS = json.loads(Path(__file__).with_name("export.json").read_text())["reward"]
OPTIONS["opening"] = ""


class DiG(ORM):
    """``dig_env.score`` of each completion."""

    def __call__(self, completions, solution, **_):
        return [result.total for result in score_responses(completions, solution, **OPTIONS)]


orms["dig"] = DiG
