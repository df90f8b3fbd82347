"""Merge a LoRA adapter into its base model, for tools that load whole models.

python examples/trainers/merge_lora.py runs/mine/adapter runs/mine/merged
"""

import sys
from pathlib import Path

from peft import PeftConfig, PeftModel
from transformers import AutoModelForImageTextToText, AutoProcessor

from dig_env.scenes.files import write_folder_whole


def merge_lora(adapter: str | Path, out: str | Path) -> None:
    """Write the merged model, and the processor beside the adapter.

    Args:
        adapter: folder with adapter_config.json, the adapter's weights and the processor's files.
        out: folder to write.
    """
    base = PeftConfig.from_pretrained(adapter).base_model_name_or_path
    model = AutoModelForImageTextToText.from_pretrained(base, dtype="auto")
    merged = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    processor = AutoProcessor.from_pretrained(adapter)

    def save(folder: Path) -> None:
        merged.save_pretrained(folder)
        processor.save_pretrained(folder)

    write_folder_whole(Path(out).resolve(), save)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("give the adapter's folder and the folder to write")
    merge_lora(*sys.argv[1:])
