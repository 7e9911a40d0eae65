"""Janus in lmms-eval (MMBench, SEED, POPE, MME, GQA, MM-Vet...): an entry point of ``lmms_eval.models``, no fork.

    lmms_eval --model dualsight_janus --model_args pretrained=Janus-Pro-1B --tasks pope --batch_size 8

Published figures of Janus hide a protocol: MMBench was asked once per question (no CircularEval), POPE's figure is the
random split, and Janus-Pro wants other roles than Janus-1.3B (its checkpoint's, here). So a run writes what it did to
``runs/lmms_eval/MODEL/TASK.json``, a file for each task: put it beside the number.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lmms_eval.api.model import lmms  # ty: ignore[import-not-found]
from lmms_eval.models.registry_v2 import ModelManifest  # ty: ignore[import-not-found]

from dualsight.bench.provenance import weights_sha256
from dualsight.data.files import write_json
from dualsight.inference.assistant import Assistant
from dualsight.inference.text import log_likelihood
from dualsight.types import IMAGE_MARK, Conversation, Picture, Turn

MANIFEST = ModelManifest(model_id="dualsight_janus", simple_class_path="dualsight.bench.lmms.JanusLmms")
MOST_TOKENS = 1024
ROTATED = 1_000_000
"""MMBench's rows from this ``index`` on ask question ``index % ROTATED`` again, its options in another order."""


class JanusLmms(lmms):
    """A Janus as lmms-eval's tasks ask it.

    Args:
        pretrained: a folder with a Janus of ours, of the official release or of transformers.
        batch_size: questions answered side by side; the answers do not depend on it.
        device, dtype: of the model ("cuda", "bfloat16").
        system_prompt: in place of the checkpoint's; "none" for no system prompt.
        protocols: a folder for the protocol of each task, ``TASK.json``; ``runs/lmms_eval/MODEL`` by default.

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
        protocols: str = "",
        **unknown: Any,
    ):
        super().__init__()
        if unknown := {name: value for name, value in unknown.items() if value is not None}:
            known = "pretrained, dtype, system_prompt, protocols"
            raise ValueError(f"unknown model_args {', '.join(unknown)}; known: {known}")
        kind = getattr(torch, dtype, None)
        if not isinstance(kind, torch.dtype) or not kind.is_floating_point:
            raise ValueError(f"dtype is {dtype!r}; expected float32, bfloat16 or float16")
        self.assistant = Assistant.from_pretrained(Path(pretrained), device, kind)
        self.batch_size = int(batch_size)
        self.system = {"": None, "none": ""}.get(system_prompt, system_prompt)
        config = self.assistant.processor.config
        self.circular: set[str] = set()
        """Tasks whose questions are asked again with their options in another order."""
        self.protocols = Path(protocols or Path("runs", "lmms_eval", Path(pretrained).resolve().name))
        self.protocol = {
            "dualsight": version("dualsight"),
            "model": pretrained,
            "weights_sha256": weights_sha256(Path(pretrained)),
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
        self._stamp(requests)
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
        self._stamp(requests)
        return told

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        raise NotImplementedError("tasks of several rounds are not supported for Janus")

    def _stamp(self, requests: Sequence[Any]) -> None:
        """Write the protocol of each task that was asked."""
        tasks: dict[tuple[str, str], list[Any]] = {}
        for request in requests:
            tasks.setdefault(request.args[-2:], []).append(request)
        for (task, split), asked in tasks.items():
            prompts = sorted((str(request.args[3]), request.args[0]) for request in asked)
            settings = [request.args[1] for request in asked if isinstance(request.args[1], Mapping)]
            stamp = {
                "task": task,
                "split": split,
                "requests": len(asked),
                "circular": task in self.circular,
                "prompts_sha256": hashlib.sha256(json.dumps(prompts).encode()).hexdigest(),
                "first_prompt": asked[0].args[0],
                "settings": {name: repr(value) for name, value in settings[0].items()} if settings else {},
            }
            write_json(self.protocols / f"{task}.json", {**self.protocol, **stamp})

    def _document(self, request: Any) -> Any:
        *_, number, task, split = request.args
        document = self.task_dict[task][split][number]
        if _rotated(document):
            self.circular.add(task)
        return document

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


def _rotated(document: Any) -> bool:
    """Is this a question of MMBench asked again with its options in another order (CircularEval)?"""
    try:
        return int(document["index"]) >= ROTATED
    except (KeyError, TypeError, ValueError, IndexError):
        return False


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
