"""Janus in lmms-eval (MMBench, SEED, POPE, MME, GQA, MM-Vet...): an entry point of ``lmms_eval.models``, no fork.

    lmms_eval --model dualsight_janus --model_args pretrained=Janus-Pro-1B --tasks pope --batch_size 8

Published figures of Janus hide a protocol: MMBench was asked once per question (no CircularEval), POPE's figure is the
random split, and Janus-Pro wants other roles than Janus-1.3B (its checkpoint's, here). So a run writes what it did to
``protocol``: put it beside every number.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lmms_eval.api.model import lmms  # ty: ignore[import-not-found]
from lmms_eval.models.registry_v2 import ModelManifest  # ty: ignore[import-not-found]

from dualsight.inference.assistant import Assistant
from dualsight.inference.text import log_likelihood
from dualsight.types import IMAGE_MARK, Conversation, Picture, Turn

MANIFEST = ModelManifest(model_id="dualsight_janus", simple_class_path="dualsight.bench.lmms.JanusLmms")
MOST_TOKENS = 1024


class JanusLmms(lmms):
    """A Janus as lmms-eval's tasks ask it.

    Args:
        pretrained: a folder with a Janus of ours, of the official release or of transformers.
        batch_size: questions answered side by side; the answers do not depend on it.
        device, dtype: of the model ("cuda", "bfloat16").
        system_prompt: in place of the checkpoint's; "none" for no system prompt.

    Raises:
        ValueError: ``dtype`` is no floating type of torch.
    """

    is_simple = True

    def __init__(
        self,
        pretrained: str,
        batch_size: int | str = 1,
        device: str = "cpu",
        dtype: str = "float32",
        system_prompt: str = "",
        **unknown: Any,
    ):
        super().__init__()
        if unknown := {name: value for name, value in unknown.items() if value is not None}:
            raise ValueError(f"unknown model_args {', '.join(unknown)}; known: pretrained, dtype, system_prompt")
        kind = getattr(torch, dtype, None)
        if not isinstance(kind, torch.dtype) or not kind.is_floating_point:
            raise ValueError(f"dtype is {dtype!r}; expected float32, bfloat16 or float16")
        self.assistant = Assistant.from_pretrained(Path(pretrained), device, kind)
        self.batch_size = int(batch_size)
        self.system = {"": None, "none": ""}.get(system_prompt, system_prompt)
        config = self.assistant.processor.config
        self.protocol = {
            "dualsight": version("dualsight"),
            "model": pretrained,
            "dtype": dtype,
            "roles": config.roles,
            "system": config.system if self.system is None else self.system,
            "decoding": "greedy unless the task says otherwise",
            "images": "longer side scaled with int(), grey padding, PIL bicubic (release-exact)",
        }

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """The answers to requests ``(context, settings, doc_to_visual, doc_id, task, split)``, in their order."""
        answers: list[str | None] = [None] * len(requests)
        groups: dict[str, list[int]] = {}
        for index, request in enumerate(requests):  # what is decoded alike may share a batch
            groups.setdefault(repr(sorted(request.args[1].items(), key=str)), []).append(index)
        for indices in groups.values():
            settings = requests[indices[0]].args[1]
            for start in range(0, len(indices), self.batch_size):
                part = indices[start : start + self.batch_size]
                talks = [self._asked(*self._question(requests[index])) for index in part]
                for index, answer in zip(part, self.assistant.chat(talks, **_decoding(settings)), strict=True):
                    answers[index] = _cut(answer, settings.get("until"))
        return [answer or "" for answer in answers]

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """How likely continuations are: requests ``(context, continuation, doc_to_visual, doc_id, task, split)``."""
        model, processor = self.assistant.model, self.assistant.processor
        told = []
        for request in requests:
            text, images = self._question(request)
            continuation = request.args[1]
            if callable(continuation):
                continuation = continuation(self._document(request))
            talk = self._asked(text, images)
            talk = Conversation((*talk.turns, Turn("assistant", str(continuation))), talk.images, talk.system)
            told.append(log_likelihood(model, processor, talk))
        return told

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        raise NotImplementedError("tasks of several rounds are not supported for Janus")

    def _document(self, request: Any) -> Any:
        *_, document, task, split = request.args
        return self.task_dict[task][split][document]

    def _question(self, request: Any) -> tuple[str, list[Picture]]:
        """The text, and the images that the task shows with it."""
        visuals = request.args[2](self._document(request)) or []
        return request.args[0], [visual.convert("RGB") for visual in visuals]

    def _asked(self, text: str, images: list[Picture]) -> Conversation:
        """Images where the text marks them; those it does not mark come before it."""
        unmarked = len(images) - text.count(IMAGE_MARK)
        if unmarked < 0:
            text, unmarked = text.replace(IMAGE_MARK, ""), len(images)
        return Conversation((Turn("user", f"{IMAGE_MARK}\n" * unmarked + text),), tuple(images), self.system)


def _decoding(settings: dict[str, Any]) -> dict[str, Any]:
    """lmms-eval's names of settings, as ours."""
    temperature = float(settings.get("temperature") or 0)
    sampled = settings.get("do_sample", temperature > 0)
    return {
        "max_tokens": int(settings.get("max_new_tokens") or MOST_TOKENS),
        "temperature": temperature if sampled else 0.0,
        "top_p": float(settings.get("top_p") or 1.0),
    }


def _cut(answer: str, until: str | list[str] | None) -> str:
    """An answer up to the first of the texts that end it."""
    for end in [until] if isinstance(until, str) else until or []:
        answer = answer.split(end)[0] if end else answer
    return answer.strip()
