"""A small VLM that talks about grids or houses: its pre-training, on ``data.talks``.

It learns with the image in reach; then it is frozen. A policy that is to read memory should have met visual tokens in
the middle of a text, as VLMs trained on interleaved images have: a share of its delimiters is followed by the image
once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import InternVLForConditionalGeneration

from dualsight.data.gridtalk import GridTalk
from dualsight.data.talks import MARK, SENTENCE, Talk
from dualsight.inference.talk_vlm import PolicyConfig, TalkBatch, load_policy, new_policy, save_policy
from dualsight.models.janus_core import IGNORE
from dualsight.nn.hf_attention import QUICK
from dualsight.train.trainer import Run, batches_of, fit, is_main_process

LAYERS = r"layers?\.\d"
"""Whose matrices Muon trains."""


class PolicyTalks(Dataset):
    """Batch ``i`` of the policy's pre-training.

    Three questions in view of the image, first about the ``color`` of its first six cells, then about all features of
    these, then about more and more cells: to find a cell by its name is learnt in a hundred steps from few names and
    one feature, and not in several hundred from all at once. Of a ``placed`` policy, which learns all names at once,
    about all cells from the start; and it learns to count before it is asked about all features, from grids half of
    which have rows that lean to a colour. Questions that it is not ``taught`` are asked with the others; of these it
    learns how a sentence goes on, but not the answer. In the end every other talk is as long as the image is in reach.

    Wherever a policy whose tokens are taught (`PolicyConfig.lessons`) meets the image once more, it is in any number of
    these. In the end they are as often few as many, half of the times begin with those that are asked about, as a
    cut-out does, and half of the talks begin behind the image, so that there is nothing else to look at: a policy for
    which the whole image was always in reach as well learns to pass over a few tokens amid a text, not to read them.

    A picture is in a batch once, however often it is shown: ``order`` and ``kept`` have a row for each time.

    Args:
        interleaved: share of the delimiters behind which the image is shown once more.
        done: share of this schedule that the policy has behind it.
    """

    FEATURES, CELLS, LONG = 0.1, 0.3, 0.75
    """From which share of the steps on all features are asked about, more cells, and all of them in long talks."""
    PLACED = ((0.15, ("color",)), (0.45, ("color", "count", "count")))
    """Until which share of the steps a placed policy is asked what. It finds all 36 cells at once, after some hundred
    steps of one feature, or does not at all; to count takes as many of little else."""
    LEANING = 0.5
    """See `GridTalk.leaning`."""

    def __init__(
        self, config: PolicyConfig, batch: int, batches: int, seed: int, interleaved: float = 0.1, done: float = 0.0
    ):
        if not 0 <= interleaved <= 1:
            raise ValueError(f"interleaved={interleaved} of the questions: give a share from 0 to 1")
        types = tuple(dict.fromkeys((*config.taught, *config.task.types)))
        self.task, self.batch, self.batches, self.seed = replace(config.task, types=types), batch, batches, seed
        self.lessons = self.PLACED if config.placed else ((self.FEATURES, ("color",)),)
        self.interleaved, self.done, self.most = interleaved, done, config.reach // (SENTENCE + config.task.fillers)
        self.make, self.visual_tokens = TalkBatch(config), config.visual_tokens

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        rng, cells = np.random.default_rng((self.seed, index)), self.task.subjects
        done = self.done + (1 - self.done) * index / self.batches
        placed, taught = self.make.config.placed, self.make.config.taught
        first = cells if placed else min(6, cells)
        among = round(np.interp(done, (self.CELLS, self.LONG), (first, cells)))
        lesson = next((asked for until, asked in self.lessons if done < until), ())
        task = replace(self.task, types=tuple(kind for kind in lesson if kind in taught) or self.task.types)
        if isinstance(task, GridTalk) and placed and done >= self.lessons[0][0]:
            task = replace(task, leaning=self.LEANING)
        last = done > self.LONG
        sentences = self.most if last and rng.random() < 0.5 else 3
        talks = [task.sample(sentences, rng, among=among) for _ in range(self.batch)]
        again = {number: self.visual_tokens for number in range(sentences) if rng.random() < self.interleaved}
        partly = len(self.make.config.lessons) > 0
        cut = partly and last
        behind = cut and len(again) > 0 and rng.random() < 0.5
        if cut:
            again = {number: round(self.visual_tokens ** rng.random()) for number in again}
        elif partly:
            again = {number: int(rng.integers(1, self.visual_tokens + 1)) for number in again}
        batch = self.make(talks, rng, again)
        answers = batch.pop("answers")
        told = torch.tensor([[sentence.type in taught for sentence in talk.sentences] for talk in talks])
        batch["labels"][:, answers - 1] = batch["labels"][:, answers - 1].where(told, IGNORE)
        batch["kept"] = torch.tensor([self.visual_tokens, *again.values()]).repeat(self.batch)
        batch["pixel_values"] = batch["pixel_values"][:: 1 + len(again)]
        if partly:
            batch["shown"] = torch.from_numpy(np.stack([task.shown_in(talk) for talk in talks]))
        places = rng.permuted(np.tile(np.arange(self.visual_tokens), (len(batch["kept"]), 1)), axis=1)
        if cut:
            self._cut_out(places.reshape(self.batch, -1, self.visual_tokens)[:, 1:], talks, [*again], rng)
        batch["order"] = torch.from_numpy(places)
        return _behind_the_image(batch, len(self.make.config.image), 1 + len(again)) if behind else batch

    def _cut_out(
        self, places: NDArray[np.int64], talks: Sequence[Talk], shown: Sequence[int], rng: np.random.Generator
    ) -> None:
        """Let half of the images amid a text, (talks, images, places), begin with what is asked there."""
        for talk, images in zip(talks, places, strict=True):
            for number, image in zip(shown, images, strict=True):
                if rng.random() < 0.5:
                    asked = np.isin(image, self.task.looked_at(talk, talk.sentences[number]))
                    image[:] = image[np.argsort(~asked, kind="stable")]


def _behind_the_image(batch: dict[str, Tensor], length: int, images: int) -> dict[str, Tensor]:
    """A batch of talks without their beginning.

    Args:
        length: of the image that they begin with, in tokens.
        images: of a talk.
    """
    later = torch.arange(len(batch["kept"])) % images > 0
    text = {name: batch[name][:, length:] for name in ("input_ids", "attention_mask", "labels")}
    return batch | text | {name: batch[name][later] for name in ("order", "kept")}


class PolicyTraining(nn.Module):
    """A VLM under the cross-entropy of its answers.

    The visual tokens of an image come in any order: what a token shows and where must stand in the token. A language
    model that counts tokens instead cannot read a few of them that stand elsewhere, which is what memory is.

    Args:
        lessons: what a visual token is taught to show by itself (`PolicyConfig.lessons`). Of each feature a linear head
            tells the classes without words; the score of a class with a word is the token's product with the word's
            embedding, of root mean square 1.
    """

    def __init__(self, vlm: InternVLForConditionalGeneration, lessons: Sequence[tuple[int, tuple[int, ...]]] = ()):
        super().__init__()
        self.vlm, self.words = vlm, [words for _, words in lessons]
        width = vlm.lm_head.in_features
        self.heads = nn.ModuleList(nn.Linear(width, classes - len(words)) for classes, words in lessons)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        labels: Tensor,
        pixel_values: Tensor,
        order: Tensor,
        kept: Tensor,
        shown: Tensor | None = None,
    ) -> dict[str, Tensor]:
        learnt, model = labels != IGNORE, self.vlm.model
        seen = torch.stack(list(model.get_image_features(pixel_values=pixel_values).pooler_output))  # (images, V, D)
        told = {}
        if shown is not None:
            losses = [
                F.cross_entropy(self._scores(feature, seen).mT, what) for feature, what in enumerate(shown.unbind(-1))
            ]
            told["shown_loss"] = torch.stack(losses).mean()
        seen = seen.repeat_interleave(len(order) // len(seen), 0)
        seen = seen.take_along_dim(order[..., None], 1)[torch.arange(seen.shape[1], device=seen.device) < kept[:, None]]
        embedded = model.get_input_embeddings()(input_ids)
        embedded = embedded.masked_scatter((input_ids == MARK["<seen>"])[..., None], seen.to(embedded.dtype))
        text = model.language_model(inputs_embeds=embedded, attention_mask=attention_mask, use_cache=False)
        hidden = text.last_hidden_state
        logits, targets = self.vlm.lm_head(hidden[learnt]), labels[learnt]
        right = (logits.argmax(-1) == targets).float().mean()
        return {"loss": F.cross_entropy(logits, targets) + sum(told.values()), **told, "right": right}

    def _scores(self, feature: int, seen: Tensor) -> Tensor:
        """(images, V, classes) of what visual tokens show."""
        table = cast(nn.Embedding, self.vlm.get_input_embeddings()).weight
        codes = table[list(self.words[feature])]
        codes = codes / codes.square().mean(-1, keepdim=True).sqrt()
        return torch.cat([self.heads[feature](seen), seen @ codes.mT], -1)


def steps_of(config: PolicyConfig) -> int:
    """Steps that such a policy needs, in batches of 64."""
    return 4000 if config.lessons else 1200


def policy_run(out: Path, steps: int, **changes: Any) -> Run:
    """Settings with which a policy is trained; ``changes`` replace them."""
    return replace(Run(out, steps, learning_rate=2e-3, batch=64, matrices=LAYERS, warmup=0.1), **changes)


def pretrain_policy(config: PolicyConfig, run: Run, interleaved: float = 0.1, init: Path | None = None) -> Path:
    """Train the small VLM and write it to ``run.out``; returns that folder.

    Args:
        interleaved: share of delimiters behind which the image stands once more; 0 is a policy that never met it there.
        init: one to go on from, with the talks of the last part; otherwise it is trained from nothing.

    Raises:
        ValueError: ``init`` has other sizes, or ``interleaved`` is no share.
    """
    vlm, done, before = new_policy(config, run.seed), 0.0, 0
    if init:
        vlm, found = load_policy(init)
        if replace(found, task=config.task, interleaved=None, steps=None) != config:
            raise ValueError(f"{init} holds a policy of another size, which cannot go on as this one")
        done, before = PolicyTalks.LONG, found.steps or 0
    vlm.set_attn_implementation(QUICK)
    talks = PolicyTalks(config, run.batch, batches_of(run.steps), run.seed, interleaved, done)
    fit(PolicyTraining(vlm, config.lessons), talks, run)
    if is_main_process():
        save_policy(vlm, replace(config, interleaved=interleaved, steps=before + run.steps), run.out)
    return run.out
