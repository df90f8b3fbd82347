"""Processor of the embedded policy: two images and a chat to tensors, tokens to text.

The vocabulary is made for one job. Each integer 0-1000 is one token, so are the brackets of a box
list, and each sentence of the instruction is one token (any other sentence is `<unk>`): the model
is trained for one instruction and does not read English. Commas between numbers are not tokens;
the decoder writes them. So `[[120, 300, 210, 400]]` is six tokens and comes back exactly.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, ProcessorMixin
from transformers.image_processing_backends import PilBackend
from transformers.image_utils import PILImageResampling

from agents.tiny.configuration import DigTinyConfig

IMAGE_TOKEN = "<|image_pad|>"
SPECIAL_TOKENS = ("<pad>", "<unk>", "<bos>", "<eos>", "<user>", "<assistant>", IMAGE_TOKEN)
PUNCTUATION = ("[[", "], [", "]]", "[", "]", "[]")
SENTENCE = r"[^\W\d_][\s\S]*?(?:[.!?:](?=\s|$)|\n|$)"
"""From a letter to the sentence's end mark; the dots in `[[x_min, ...], ...]` do not end one."""

CHAT_TEMPLATE = (
    "{{ '<bos>' }}{% for message in messages %}"
    "{{ '<user>' if message['role'] != 'assistant' else '<assistant>' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '" + IMAGE_TOKEN + "' }}{% else %}{{ part['text'] }}"
    "{% endif %}{% endfor %}{% endif %}"
    "{% if message['role'] == 'assistant' %}{{ '<eos>' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)


def build_tokenizer(instructions: Sequence[str]) -> PreTrainedTokenizerFast:
    """A tokenizer for box lists and for the sentences of `instructions`.

    >>> t = build_tokenizer(["Find every difference."])
    >>> t.decode(t.encode("[[1, 2, 3, 4], [5, 6, 7, 1000]]"))
    '[[1, 2, 3, 4], [5, 6, 7, 1000]]'
    """
    sentences = [match.strip() for text in instructions for match in re.findall(SENTENCE, text)]
    numbers = [str(number) for number in range(1001)]
    words = [*SPECIAL_TOKENS, *PUNCTUATION, *numbers, *dict.fromkeys(sentences)]
    backend = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    pieces = SENTENCE + r"|\[\[|\]\]|\], \[|\[\]|\[|\]|\d+|[^\s,]"
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pieces), behavior="removed", invert=True),
            pre_tokenizers.Split(Regex(r"\s+$"), behavior="removed"),
        ]
    )
    backend.decoder = decoders.Sequence(
        [
            decoders.WordPiece(prefix="##", cleanup=False),
            decoders.Fuse(),
            decoders.Replace(Regex(r"(?<=\d) (?=\d)"), ", "),
            decoders.Replace(Regex(r"(?<=\[) | (?=\])"), ""),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<bos>",
        eos_token="<eos>",
        additional_special_tokens=["<user>", "<assistant>", IMAGE_TOKEN],
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )


class DigTinyImageProcessor(PilBackend):
    """Resizes images of any size to the model's and scales them to [-1, 1]."""

    do_convert_rgb = True
    do_resize = True
    do_rescale = True
    do_normalize = True
    resample = PILImageResampling.BILINEAR
    size = {"height": 96, "width": 128}
    image_mean = [0.5, 0.5, 0.5]
    image_std = [0.5, 0.5, 0.5]


class DigTinyProcessor(ProcessorMixin):
    """Image processor, tokenizer and chat template of `dig_tiny` in one object.

    Args:
        image_processor: gives `pixel_values`, one (3, H, W) row per image.
        tokenizer: from `build_tokenizer`.
        tokens_per_image: placeholders written for each image (`DigTinyConfig.tokens_per_image`).
    """

    def __init__(
        self,
        image_processor=None,
        tokenizer=None,
        tokens_per_image=24,
        chat_template=None,
        **kwargs,
    ):
        self.tokens_per_image = tokens_per_image
        self.image_token = IMAGE_TOKEN
        self.image_token_id = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
        super().__init__(image_processor, tokenizer, chat_template=chat_template or CHAT_TEMPLATE)

    def replace_image_token(self, image_inputs: dict, image_idx: int, **kwargs) -> str:
        """The placeholders of one image."""
        return self.image_token * self.tokens_per_image


def build_processor(instructions: Sequence[str], config: DigTinyConfig) -> DigTinyProcessor:
    """A processor whose tokenizer knows the sentences of `instructions`."""
    height, width = config.image_size
    return DigTinyProcessor(
        DigTinyImageProcessor(size={"height": height, "width": width}),
        build_tokenizer(instructions),
        tokens_per_image=config.tokens_per_image,
    )
