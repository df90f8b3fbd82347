"""Evaluate a served model with verifiers: any OpenAI-compatible endpoint that takes images.

pip install ./environments/dig_v0
vllm serve Qwen/Qwen3-VL-4B-Instruct --limit-mm-per-prompt '{"image": 2}'
python examples/trainers/verifiers_eval.py http://127.0.0.1:8000/v1 Qwen/Qwen3-VL-4B-Instruct

The same from the command line, with a dataset that `dig-env render --split test` wrote:

vf-eval DiG-v0 --env.taskset.dataset pairs --env.taskset.split test -n 100 --no-push \
    --client.base-url http://127.0.0.1:8000/v1 --model Qwen/Qwen3-VL-4B-Instruct
"""

import asyncio
import sys

import verifiers.v1 as vf

base_url, model = sys.argv[1:]
taskset = {"id": "DiG-v0", "stage": "single", "split": "test", "width": 320, "height": 240}
env = vf.load_environment(vf.resolve_env_config({"taskset": taskset}))
context = vf.ModelContext(
    client=vf.EvalClientConfig(base_url=base_url, api_key_var="OPENAI_API_KEY"),
    model=model,
    sampling=vf.SamplingConfig(temperature=0.0, max_tokens=2048),
)


async def main(pairs: int = 8) -> None:
    async with env.serving():
        slots = [slot for task in env.taskset.take(pairs) for slot in env.slots(task)]
        episodes = await asyncio.gather(*(env.run_slot(slot, context) for slot in slots))
    for episode in episodes:
        (trace,) = episode.traces
        if not trace.ok:
            sys.exit(f"{trace.task.data.name}: {trace.last_error.message}")
        print(f"{trace.task.data.name}: reward {trace.reward:.3f}, F1 {trace.metrics['f1']:.2f}")


asyncio.run(main())
