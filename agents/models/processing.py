"""Processor of the compact model: images and a chat to tensors, tokens to text.

**Slots.** A message's content is a list of parts. `{"type": "image"}` is a slot for an image, and
`{"type": "image", "object": True}` one for a crop of an image: `<image>` and `<object>`. The images
themselves, crops included, come beside the messages in the order of the slots (TRL's `images`
column, the processor's `images`). Both are parts of type "image" since TRL and transformers count
and fill those alone; they pass `object` on, through Arrow tables too, and other models' templates
take a crop for one more image.

**Placeholders.** A crop is seen by itself, and so is every image if the encoders see one image at a
time. If they compare two, the images of a sequence are taken two by two, in their order, and the
last of an odd number is seen by itself.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from PIL import Image
from transformers import BatchFeature, ProcessorMixin
from transformers.image_processing_backends import PilBackend
from transformers.image_utils import PILImageResampling, make_flat_list_of_images

from dig_env.agents.models.tokenization import IMAGE_TOKEN, OBJECT_TOKEN

SLOT = re.compile(f"{re.escape(IMAGE_TOKEN)}|{re.escape(OBJECT_TOKEN)}")


def chat_template(begin: str, user: str, assistant: str, end: tuple[str, str], after: str) -> str:
    """A Jinja template: text and slots of all parts in turn, between what marks the turns.

    What the assistant writes, its end included, is marked for `assistant_only_loss` of TRL's
    SFTTrainer.

    Args:
        begin: of the conversation, as all arguments a Jinja expression.
        user, assistant: begin their turns; all roles but "assistant" count as user.
        end: end a turn of the user and of the assistant.
        after: follows each turn.
    """
    parts = (
        "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
        "{% for part in message['content'] %}{% if part['type'] == 'image' %}"
        f"{{{{ '{OBJECT_TOKEN}' if part['object'] else '{IMAGE_TOKEN}' }}}}"
        "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    )
    return (
        f"{{{{ {begin} }}}}{{% for message in messages %}}"
        f"{{% if message['role'] == 'assistant' %}}{{{{ {assistant} }}}}"
        f"{{% generation %}}{parts}{{{{ {end[1]} }}}}{{% endgeneration %}}"
        f"{{% else %}}{{{{ {user} }}}}{parts}{{{{ {end[0]} }}}}{{% endif %}}"
        f"{{{{ {after} }}}}{{% endfor %}}"
        f"{{% if add_generation_prompt %}}{{{{ {assistant} }}}}{{% endif %}}"
    )


CHAT_TEMPLATE = chat_template("'<bos>'", "'<user>'", "'<assistant>'", ("''", "'<eos>'"), "''")
"""Of tokenizers from `build_tokenizer`."""

CHATML_TEMPLATE = chat_template(
    "''",
    r"'<|im_start|>' + message['role'] + '\n'",
    r"'<|im_start|>assistant\n'",
    ("'<|im_end|>'", "'<|im_end|>'"),
    r"'\n'",
)
"""Of Qwen's tokenizers."""


class CompactImageProcessor(PilBackend):
    """Resizes images of any size to the model's and scales their colours to [-1, 1].

    With `size={"max_height": ..., "max_width": ...}`, `do_pad=True` and `pad_size`, images keep
    their aspect: they fill the frame from the top left, and grey fills the rest.
    """

    do_convert_rgb = True
    do_resize = True
    do_rescale = True
    do_normalize = True
    resample = PILImageResampling.BILINEAR
    size = {"height": 96, "width": 128}
    image_mean = [0.5, 0.5, 0.5]
    image_std = [0.5, 0.5, 0.5]

    def preprocess(self, images: Any, *args: Any, **kwargs: Any) -> BatchFeature:
        """As in transformers; what repeats (in a GRPO group) is processed once."""
        images = make_flat_list_of_images(images)
        contents = [_content(image) for image in images]
        distinct = dict(zip(contents, images, strict=True))
        places = {content: place for place, content in enumerate(distinct)}
        batch = super().preprocess(list(distinct.values()), *args, **kwargs)
        index = [places[content] for content in contents]
        pixels = batch["pixel_values"]
        is_list = isinstance(pixels, list)
        batch["pixel_values"] = [pixels[place] for place in index] if is_list else pixels[index]
        return batch


def _content(image: Any) -> Any:
    """What equal images share."""
    if isinstance(image, np.ndarray) or (isinstance(image, Image.Image) and image.mode == "RGB"):
        array = np.asarray(image)
        return array.shape, array.dtype.str, array.tobytes()
    return id(image)


class CompactProcessor(ProcessorMixin):
    """Image processor, tokenizer and chat template of `dig_compact` in one object.

    Args:
        image_processor: gives `pixel_values`, one (3, H, W) row per image.
        tokenizer: knows `<|image_pad|>` and `<|object_pad|>`.
        tokens_per_grid: placeholders of an image that is seen by itself.
        images_per_grid: how many images the encoders see at a time.
    """

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        tokens_per_grid: int = 48,
        images_per_grid: int = 2,
        chat_template: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.tokens_per_grid, self.images_per_grid = tokens_per_grid, images_per_grid
        self.image_token, self.object_token = IMAGE_TOKEN, OBJECT_TOKEN
        self.image_token_id, self.object_token_id = tokenizer.convert_tokens_to_ids(
            [IMAGE_TOKEN, OBJECT_TOKEN]
        )
        super().__init__(image_processor, tokenizer, chat_template=chat_template or CHAT_TEMPLATE)

    def placeholders(self, sample: str) -> list[str]:
        """What takes the place of each slot of a text, in order."""
        slots = SLOT.findall(sample)
        together = slots.count(IMAGE_TOKEN) // self.images_per_grid * self.images_per_grid
        written = []
        for slot in slots:
            if slot == IMAGE_TOKEN and together:
                written.append(IMAGE_TOKEN * (self.tokens_per_grid // self.images_per_grid))
                together -= 1
            else:
                written.append(OBJECT_TOKEN * self.tokens_per_grid)
        return written

    def get_text_with_replacements(
        self, text: list[str], images_replacements: Any = (), *_: Any
    ) -> tuple[list[str], list[list[dict[str, Any]]]]:
        """Write the placeholders; see the base class for what is returned."""
        offsets = []
        for number, sample in enumerate(text):
            replacements, pieces, last, grown = [], [], 0, 0
            for slot, written in zip(SLOT.finditer(sample), self.placeholders(sample), strict=True):
                start, end = slot.span()
                new_span = (start + grown, start + grown + len(written))
                replacements.append({"type": "image", "span": (start, end), "new_span": new_span})
                replacements[-1] |= {"text": slot.group(), "replacement": written}
                pieces += [sample[last:start], written]
                last, grown = end, new_span[1] - end
            text[number] = "".join([*pieces, sample[last:]])
            offsets.append(replacements)
        return text, offsets

    def replace_image_token(self, image_inputs: dict, image_idx: int, **kwargs: Any) -> str:
        """Unused, but asked for: what stands for an image depends on the others of its text."""
        return ""

    def validate_inputs(self, images: Any = None, text: Any = None, **kwargs: Any) -> None:
        """Every slot has its image.

        Raises:
            ValueError: a text, or all texts together, have more or fewer slots than images.
        """
        if text is None:
            return
        texts = [text] if isinstance(text, str) else text
        slots = [len(SLOT.findall(sample)) for sample in texts]
        if images is None:
            given = [0] * len(slots)
        elif isinstance(images, (list, tuple)) and all(
            isinstance(i, (list, tuple)) for i in images
        ):
            given = [len(entry) for entry in images]
        else:  # one list for all texts
            slots, given = [sum(slots)], [len(make_flat_list_of_images(images))]
        if len(slots) != len(given):
            raise ValueError(f"{len(slots)} texts, but {len(given)} lists of images: give one each")
        for number, (asked, got) in enumerate(zip(slots, given, strict=True)):
            if asked != got:
                raise ValueError(
                    f"text {number} has {asked} slots for images, but {got} images were given for "
                    'it; write one part {"type": "image"} in the messages for each image, and '
                    '{"type": "image", "object": True} for each crop, and give the images in the '
                    "order of their parts"
                )
