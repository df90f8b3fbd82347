"""Tokens, memory and time of the runs in examples/qwen3_vl, worked out; nothing is trained.

python benchmarks/qwen3_vl_budget.py --out docs/results/qwen3_vl_budget.json

The models are built at full size on PyTorch's meta device, from the values of their published
config.json, and their parameters are counted. What is assumed rather than counted is in
``Assumed``. GB are 1e9 bytes.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import tyro
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForImageTextToText,
    PreTrainedModel,
    Qwen3_5Config,
    Qwen3_5TextConfig,
    Qwen3VLConfig,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from dig_env.agents.reporting.report import write_results
from dig_env.agents.training.run_file import read_run
from dig_env.agents.training.settings import GRPORun

RUNS = Path("examples/qwen3_vl")
PATCH, MERGE = 16, 2
MIN_PIXELS, MAX_PIXELS = 65_536, 16_777_216
"""``size`` of Qwen3-VL's preprocessor_config.json: what is smaller is enlarged."""

INSTRUCTION_TOKENS = {None: 80, True: 80, False: 82}
"""A prompt of Qwen3-VL-Thinking without its image tokens, by ``GRPORun.thinking``: two image marks
each, the instruction (64), the turns' marks and the opening of the thought. Counted with Qwen's
vocabulary of 151,643 byte pairs, as in the package dashscope (resources/qwen.tiktoken). Taken for
Qwen3.5 too, whose larger vocabulary could not be had."""


@dataclass(frozen=True)
class Assumed:
    """What is not counted but assumed, of one NVIDIA H100 SXM and of the run.

    Attributes:
        gpu_gb: memory.
        peak_flops: bfloat16, dense; from the data sheet.
        bandwidth_gb_s: of its memory; from the data sheet.
        flops_reached, bandwidth_reached: shares of these that learner and rollouts reach.
        mean_answer: mean length of an answer, as a share of the longest allowed.
        vllm_overhead_gb: what vLLM takes beside weights and cache.
        asleep_gb: what vLLM and CUDA keep while it sleeps.
        sync_s: seconds to hand vLLM the new weights.
        pair_core_s: seconds of one core for a pair at 320x240 standard: 0.446 s on two cores, see
            docs/results/rendering.json; taken as proportional to the pixels.
    """

    gpu_gb: float = 80.0
    peak_flops: float = 989e12
    bandwidth_gb_s: float = 3350.0
    flops_reached: float = 0.3
    bandwidth_reached: float = 0.5
    mean_answer: float = 0.6
    vllm_overhead_gb: float = 3.0
    asleep_gb: float = 3.0
    sync_s: float = 5.0
    pair_core_s: float = 0.892


class Shape(NamedTuple):
    """What tells one size of a generation from another in its config.json.

    Attributes:
        hidden, mlp: width of the language model, and of its MLPs.
        layers, heads, kv_heads: of the language model; of Qwen3.5, of its full attention.
        vision: depth, width and MLP of the vision tower.
        tied: whether the output layer is the embedding.
        deepstack: of Qwen3-VL: layers of the vision tower that are fed to the language model.
        linear_heads: of Qwen3.5: values of its linear attention.
    """

    hidden: int
    mlp: int
    layers: int
    heads: int
    kv_heads: int
    vision: tuple[int, int, int] = (24, 1024, 4096)
    tied: bool = True
    deepstack: tuple[int, ...] = (5, 11, 17)
    linear_heads: int = 0


SHAPES = {
    "Qwen3-VL-2B": Shape(2048, 6144, 28, 16, 8),
    "Qwen3-VL-4B": Shape(2560, 9728, 36, 32, 8),
    "Qwen3-VL-8B": Shape(4096, 12288, 36, 32, 8, (27, 1152, 4304), False, (8, 16, 24)),
    "Qwen3.5-2B": Shape(2048, 6144, 24, 8, 2, linear_heads=16),
    "Qwen3.5-4B": Shape(2560, 9216, 32, 16, 4, linear_heads=32),
}
"""By the models' names, without "Qwen/", "-Thinking" and "-Instruct"."""


def full_size_config(name: str) -> Qwen3VLConfig | Qwen3_5Config:
    """The values of a model's config.json; ``name`` is one of ``SHAPES``."""
    shape = SHAPES[name]
    depth, width, mlp = shape.vision
    text: dict[str, Any] = {
        "hidden_size": shape.hidden,
        "intermediate_size": shape.mlp,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "max_position_embeddings": 262_144,
        "tie_word_embeddings": shape.tied,
    }
    rope: dict[str, Any] = {"rope_type": "default", "mrope_interleaved": True}
    vision: dict[str, Any] = {
        "depth": depth,
        "hidden_size": width,
        "intermediate_size": mlp,
        "num_heads": 16,
        "out_hidden_size": shape.hidden,
        "patch_size": PATCH,
        "spatial_merge_size": MERGE,
        "temporal_patch_size": 2,
        "num_position_embeddings": 2304,
    }
    if shape.linear_heads:
        quarter = {"rope_theta": 1e7, "mrope_section": [11, 11, 10], "partial_rotary_factor": 0.25}
        text |= {
            "vocab_size": 248_320,
            "head_dim": 256,
            "linear_num_key_heads": 16,
            "linear_num_value_heads": shape.linear_heads,
            "rope_parameters": rope | quarter,
        }
        return Qwen3_5Config(tie_word_embeddings=shape.tied, text_config=text, vision_config=vision)
    text |= {
        "vocab_size": 151_936,
        "head_dim": 128,
        "rope_parameters": rope | {"rope_theta": 5e6, "mrope_section": [24, 20, 20]},
    }
    vision["deepstack_visual_indexes"] = list(shape.deepstack)
    return Qwen3VLConfig(tie_word_embeddings=shape.tied, text_config=text, vision_config=vision)


def full_size_model(name: str) -> PreTrainedModel:
    """The model without weights, on the meta device."""
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(full_size_config(name))


def size_of(run: GRPORun) -> str:
    """Which of ``SHAPES`` a run trains."""
    return run.model.removeprefix("Qwen/").removesuffix("-Thinking")


def image_tokens(width: int, height: int) -> int:
    """Tokens of one image: one for 32x32 pixels after resizing to multiples of 32."""
    side = PATCH * MERGE
    new = smart_resize(height, width, factor=side, min_pixels=MIN_PIXELS, max_pixels=MAX_PIXELS)
    return math.prod(new) // side**2


def prompt_tokens(run: GRPORun, width: int, height: int) -> int:
    """Tokens of a prompt with two images; each image's first token stands in the text already."""
    return INSTRUCTION_TOKENS[run.thinking] + 2 * (image_tokens(width, height) - 1)


class Sizes(NamedTuple):
    """What a run's numbers follow from, on each GPU.

    Attributes:
        text: configuration of the language model.
        weights, tower: parameters of the whole model, and of its vision tower.
        multiplying: of the language model, those that multiply for each token.
        adapters: parameters of the adapters; 0 without LoRA.
        answers: of one step.
        prompt, longest: tokens of a prompt, and of it with the longest answer.
        mean: tokens of a prompt with an answer of the assumed length.
        cache_b: bytes of vLLM's cache for one token, of full attention alone.
        state_b: bytes that linear attention keeps of an answer (float32), whatever its length.
    """

    text: Any
    weights: int
    tower: int
    multiplying: int
    adapters: int
    answers: int
    prompt: int
    longest: int
    mean: float
    cache_b: int
    state_b: int


def sizes_of(run: GRPORun, gpus: int, width: int, height: int, assumed: Assumed) -> Sizes:
    """Parameters and tokens of a run."""
    model = full_size_model(size_of(run))
    text = model.config.text_config
    weights = sum(p.numel() for p in model.parameters())
    tower = sum(p.numel() for p in model.model.visual.parameters())
    embedding = text.vocab_size * text.hidden_size
    # Of tied embeddings the one matrix multiplies, as the head; else the input's only looks up.
    multiplying = weights - tower - (0 if model.config.tie_word_embeddings else embedding)
    adapters = 0
    if run.lora is not None:
        adapted = get_peft_model(model, LoraConfig(**run.lora))
        adapters = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    prompt = prompt_tokens(run, width, height)
    caching, state_b = text.num_hidden_layers, 0
    if isinstance(text, Qwen3_5TextConfig):
        caching = text.layer_types.count("full_attention")
        state = text.linear_num_value_heads * text.linear_key_head_dim * text.linear_value_head_dim
        state_b = 4 * (text.num_hidden_layers - caching) * state
    return Sizes(
        text,
        weights,
        tower,
        multiplying,
        adapters,
        answers=run.pairs_per_step * run.rollouts // gpus,
        prompt=prompt,
        longest=prompt + run.max_completion_length,
        mean=prompt + assumed.mean_answer * run.max_completion_length,
        cache_b=2 * caching * text.num_key_value_heads * text.head_dim * 2,
        state_b=state_b,
    )


def memory_of(run: GRPORun, gpus: int, sizes: Sizes, assumed: Assumed) -> dict[str, Any]:
    """Memory of each GPU, and of the host, in GB."""
    text, weights, micro = sizes.text, sizes.weights, run.trl["per_device_train_batch_size"]
    # Bytes each: bfloat16 2; float32 weight, gradient and two moments of AdamW 16, in shares.
    if run.lora is not None:
        held = 2 * weights + 16 * sizes.adapters
        reference, reference_peak = 0.0, 0.0  # the model with its adapters switched off
    else:
        held = 16 * weights / gpus
        # In shares too, but TRL gathers the reference model whole, in bfloat16, when it is asked.
        reference, reference_peak = 4 * weights / gpus, 2.0 * weights
    checkpoints = 2 * micro * sizes.longest * text.hidden_size * text.num_hidden_layers
    # One layer's, recomputed: some 8 of the layer's width and 4 of its MLP's; its input again.
    layer = 2 * micro * sizes.longest * (8 * text.hidden_size + 4 * text.intermediate_size)
    pool = run.trl["vllm_gpu_memory_utilization"] * assumed.gpu_gb
    cache = pool - 2 * weights / 1e9 - assumed.vllm_overhead_gb
    learning = (held + reference + max(checkpoints + layer, reference_peak)) / 1e9
    return {
        "weights_and_optimiser_gb": held / 1e9,
        "reference_gb": reference / 1e9,
        "reference_whole_gb": reference_peak / 1e9,
        "activations_gb": (checkpoints + layer) / 1e9,
        "learning_gb": learning + assumed.asleep_gb,
        "vllm_gb": pool,
        "vllm_cache_gb": cache,
        "longest_answers_in_cache": int(
            cache * 1e9 / (sizes.longest * sizes.cache_b + sizes.state_b)
        ),
        "rollouts_gb": (held + reference) / 1e9 + pool,
        "host_gb": 0.0 if run.lora is not None else gpus * 4 * weights * 2 / 1e9,
    }


def time_of(
    run: GRPORun, width: int, height: int, sizes: Sizes, assumed: Assumed
) -> dict[str, Any]:
    """Work and time of a step, and of the run."""
    # 2 FLOPs a weight and pass. Passes: the old log-probabilities (for vLLM's correction), the
    # reference, forward, forward again (checkpointing), backward: 2 of a full one, 1 with LoRA.
    passes = 1 + (run.beta > 0) + 2 + (2 if run.lora is None else 1)
    patches = 2 * image_tokens(width, height) * MERGE**2
    work = sizes.multiplying * sizes.mean + sizes.tower * patches
    flops = sizes.answers * passes * 2 * work
    learn_s = flops / (assumed.flops_reached * assumed.peak_flops)
    # A step of decoding reads all weights and the answers' caches once; the longest answer decides.
    half = sizes.prompt + assumed.mean_answer * run.max_completion_length / 2
    read_b = 2 * sizes.multiplying + sizes.answers * (half * sizes.cache_b + sizes.state_b)
    token_s = read_b / (assumed.bandwidth_reached * assumed.bandwidth_gb_s * 1e9)
    rollout_s = run.max_completion_length * token_s
    step_s = rollout_s + assumed.sync_s + learn_s
    answered = sizes.answers * assumed.mean_answer * run.max_completion_length
    return {
        "passes": passes,
        "learner_flops": flops,
        "rollouts_s": rollout_s,
        "rollout_tokens_a_s": answered / rollout_s,
        "learning_s": learn_s,
        "step_s": step_s,
        "run_h": run.steps * step_s / 3600,
    }


def budget(run: GRPORun, gpus: int, width: int, height: int, assumed: Assumed) -> dict[str, Any]:
    """Tokens, memory per GPU, time and rendering of a run."""
    sizes = sizes_of(run, gpus, width, height, assumed)
    time = time_of(run, width, height, sizes, assumed)
    render_core_s = assumed.pair_core_s * width * height / (320 * 240)
    return {
        "model": run.model,
        "gpus": gpus,
        "parameters": sizes.weights,
        "vision_parameters": sizes.tower,
        "trained_parameters": sizes.adapters or sizes.weights,
        "tokens": {
            "image": image_tokens(width, height),
            "prompt": sizes.prompt,
            "longest": sizes.longest,
            "answers_a_step_and_gpu": sizes.answers,
        },
        "memory": memory_of(run, gpus, sizes, assumed),
        "time": time,
        "rendering": {
            "core_s_a_pair": render_core_s,
            "cores_that_keep_up": run.pairs_per_step * render_core_s / time["step_s"],
            "core_h_of_4800_pairs": 4800 * render_core_s / 3600,
        },
    }


def main(
    width: int = 512, height: int = 384, out: Path = Path("docs/results/qwen3_vl_budget.json")
) -> None:
    """Work out the budget of each run and write it.

    Args:
        width: of the images, in pixels.
        height: of the images, in pixels.
        out: the JSON file.
    """
    assumed = Assumed()
    runs = {}
    for path in sorted(RUNS.glob("*.yaml")):
        if path.stem == "fsdp":
            continue
        run = read_run(path)
        runs[path.stem] = budget(run, 8 if run.lora is None else 1, width, height, assumed)
        print_run(path.stem, runs[path.stem])
    sizes = {
        f"{w}x{h}": image_tokens(w, h) for w, h in ((320, 240), (512, 384), (640, 480), (1024, 768))
    }
    print("tokens of an image:", sizes)
    result = {
        "command": "python benchmarks/qwen3_vl_budget.py",
        "images": f"{width}x{height}",
        "assumed": asdict(assumed),
        "image_tokens": sizes,
        "runs": runs,
    }
    write_results(out, rounded(result), "tokens of an image", sizes)


def print_run(name: str, found: dict[str, Any]) -> None:
    """The numbers that decide whether a run fits, and how long it takes."""
    trained, of = found["trained_parameters"] / 1e6, found["parameters"] / 1e6
    print(f"{name}: trains {trained:.0f} of {of:.0f} million parameters")
    for part in ("tokens", "memory", "time", "rendering"):
        numbers = (f"{key} {value:.4g}" for key, value in found[part].items())
        print(f"  {part}: {', '.join(numbers)}")


def rounded(value: Any) -> Any:
    """Four significant digits, so that the file holds no noise."""
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    tyro.cli(main)
