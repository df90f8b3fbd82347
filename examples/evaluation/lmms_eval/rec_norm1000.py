"""RefCOCO in lmms-eval, asked and scored in the frame that Qwen3-VL answers in (0 to 1000).

The data, the splits and the metrics are those of lmms-eval's own ``refcoco_bbox_rec`` tasks. Those
ask for numbers from 0 to 1; here the question is the one that Qwen's authors say they evaluate
Qwen3-VL with (github.com/QwenLM/Qwen3-VL/issues/1721), and the answer is read by
``dig_env.parse_boxes``. Of several boxes the first counts; an answer without a valid box is wrong.
"""

from dig_env import parse_boxes

METRICS = ("refcoco_ACC@0.5", "refcoco_IoU")
NO_BOX = [0.0, 0.0, 0.0, 0.0]


def doc_to_text(doc: dict) -> str:
    """The question about a row's one referring expression."""
    return (
        f'Locate every object that matches the description "{doc["answer"]}" in the image. '
        "Report bbox coordinates in JSON format."
    )


def process_results(doc: dict, results: list[str]) -> dict:
    """What lmms-eval's aggregations take: true and answered box, xyxy in the unit frame."""
    answer = parse_boxes(results[0], "norm1000")
    box = answer.boxes[0].tolist() if answer.ok else NO_BOX
    return {metric: {"bbox": doc["bbox"], "pred": box} for metric in METRICS}
