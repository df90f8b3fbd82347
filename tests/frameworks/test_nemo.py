"""NeMo Gym's own server on exported rows.

Needs nemo-gym, and so Python 3.12 or later: 'make frameworks' skips it on 3.11.
"""

import asyncio
import json

import pytest
from answers_corpus import CORPUS

pytest.importorskip("nemo_gym")

from nemo_gym.base_resources_server import BaseResourcesServerConfig
from nemo_gym.openai_utils import NeMoGymResponse
from nemo_gym.server_utils import ServerClient
from omegaconf import OmegaConf

from dig_env import PARTS, score
from dig_env.agents.data.export import export_dataset
from dig_env.agents.integrations.nemo import DiGServer, DiGVerifyRequest


@pytest.fixture(scope="module")
def exported(dataset, tmp_path_factory):
    return export_dataset(dataset, tmp_path_factory.mktemp("nemo") / "out", "nemo")


@pytest.fixture(scope="module")
def server():
    config = BaseResourcesServerConfig(host="127.0.0.1", port=1, entrypoint="app.py", name="dig")
    return DiGServer(config=config, server_client=ServerClient.model_construct())


def verify(server, row, *output):
    items = []
    for kind, text in output:
        if kind == "reasoning":
            items.append({"id": "r", "type": "reasoning", "summary": [], "content": None})
            continue
        content = [{"type": "output_text", "text": text, "annotations": []}]
        message = {"id": "m", "type": "message", "role": "assistant", "status": "completed"}
        items.append(message | {"content": content})
    response = {
        "id": "1",
        "created_at": 0,
        "model": "m",
        "object": "response",
        "output": items,
        "parallel_tool_calls": False,
        "tool_choice": "none",
        "tools": [],
    }
    body = DiGVerifyRequest(**row, response=NeMoGymResponse(**response))
    return asyncio.run(server.verify(body))


def test_the_reward_is_that_of_score_to_the_last_bit(exported, server):
    row = json.loads((exported / "data/train-mixed.jsonl").read_text().splitlines()[0])
    for case in CORPUS:
        given = verify(server, row | {"truth": case.truth_text}, ("message", case.answer))
        expected = score("<think>" + case.answer, case.truth)  # the default model thinks
        assert given.reward == expected.total
        assert {name: getattr(given, name) for name in PARTS} == {
            name: getattr(expected, name) for name in PARTS
        }


def test_a_thought_apart_from_the_answer_needs_no_end_mark(exported, server):
    for line in (exported / "data/train-mixed.jsonl").read_text().splitlines():
        row = json.loads(line)
        apart = verify(server, row, ("reasoning", ""), ("message", row["truth"]))
        assert apart.reward == 1.0
        assert verify(server, row, ("message", row["truth"])).reward == 0.0  # cut off


def test_the_configuration_names_the_app_and_the_files(exported):
    folder = exported / "resources_servers/dig"
    config = OmegaConf.to_container(OmegaConf.load(folder / "configs/dig.yaml"))
    assert (folder / config["dig"]["resources_servers"]["dig"]["entrypoint"]).is_file()
    agent = config["dig_simple_agent"]["responses_api_agents"]["simple_agent"]
    for dataset in agent["datasets"]:
        assert (exported / dataset["jsonl_fpath"]).is_file()
