"""Behaviour cloning in the ``paper`` behaviour: whole episodes as sequences, every step supervised in one pass.

The label of a step is what the expert would do there; what was executed (which may differ, under noise or a learner)
is only what the next unit remembers. Two weights make rare steps count:

    w_t = inflection, where the expert's answer differs from the one before   (Wijmans et al., arXiv:1904.03461)
        * stop,       where the answer is STOP: one step of an episode
    loss = sum_t w_t * CE(logits_t, a_t) / sum_t w_t  +  plan * huber(W h_t - p_t)

An episode is a success within 3 m of its goal, and the expert's STOP is one step of it. Where at most ``arrived``
metres remain, STOP is as right as the expert's answer, and the step costs ``-log(p(a_t) + p(STOP))``: a learner who
cannot tell the last step from the three before it would otherwise have to find STOP unlikely at all of them.

Where the expert said where its way leads (``Expert.plan``), a linear map of the hidden state that the action is read
from learns to say so too: p_t, the places 1, 2 and 4 m ahead on the path and the metres that remain, tells at every
step which door is meant, where the action is only to walk on (the progress monitor of arXiv:1901.03035, and more). The
map is dropped after the training.

A small model learns few thousand walks by heart. Two kinds of :class:`Noise` make that harder: features are dropped
out, and the action before is withheld now and then, which is right so often that a learner else copies it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dualsight.data.trajectories import Trajectory
from dualsight.envs.expert import PLAN
from dualsight.models.janus_vln import EpisodeBatch, JanusVLN
from dualsight.models.vln_layout import EMPTY
from dualsight.models.vln_processor import VLNProcessor
from dualsight.types import Action

PLAN_SIZE = 2 * len(PLAN) + 1


@dataclass(frozen=True)
class LossWeights:
    """How much more than 1 the steps count at which the expert changes its mind, and those at which it stops; how much
    the plan counts beside the actions; and where STOP is right, too."""

    inflection: float = 2.0
    stop: float = 2.0
    plan: float = 0.3
    arrived: float = 1.5
    """Metres from the goal, along the way; known only where there is a plan. 0: the expert's answer alone is right."""


@dataclass(frozen=True)
class Noise:
    """What is hidden in training: each feature of the encoders, and each previous action, with these probabilities."""

    features: float = 0.1
    previous: float = 0.15


@dataclass(frozen=True)
class Lesson:
    """One trajectory under one of its instructions."""

    trajectory: Trajectory
    instruction: str


def lessons(trajectories: Sequence[Trajectory]) -> list[Lesson]:
    """Every trajectory under every one of its instructions, and all equally often: those with fewer repeat them."""
    most = max((len(trajectory.instructions) for trajectory in trajectories), default=0)
    return [
        Lesson(trajectory, trajectory.instructions[turn % len(trajectory.instructions)])
        for trajectory in trajectories
        for turn in range(most)
    ]


class Collate:
    """Makes a batch of lessons: features, prompts, executed actions and the expert's answers, padded at the end."""

    def __init__(self, processor: VLNProcessor, features: Callable[[Trajectory], dict[str, Tensor]]):
        self.processor, self.features = processor, features

    def __call__(self, items: list[Lesson]) -> dict[str, Tensor]:
        prompts, prompt_lengths = self.processor.prompts([item.instruction for item in items])
        walks = [self.features(item.trajectory) for item in items]
        expert = [torch.tensor(item.trajectory.expert) for item in items]
        # What was executed before step t; nothing before the first.
        before = [torch.tensor([-1, *item.trajectory.executed[:-1]]) for item in items]
        return {
            "prompts": prompts,
            "prompt_lengths": prompt_lengths,
            "semantic": _pad([walk["semantic"] for walk in walks]).float(),
            "spatial": _pad([walk["spatial"] for walk in walks]).float(),
            "previous": _pad(before, -1),
            "lengths": torch.tensor([len(answers) for answers in expert]),
            "expert": _pad(expert, -1),
            "plan": _pad([_plan(item.trajectory) for item in items], torch.nan),
        }


def _plan(trajectory: Trajectory) -> Tensor:
    """(T, 7), NaN where it is not known."""
    if not trajectory.plan:
        return torch.full((len(trajectory), PLAN_SIZE), torch.nan)
    return torch.tensor(trajectory.plan)


def _pad(rows: list[Tensor], value: float = 0.0) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)


class Imitation(nn.Module):
    """A JanusVLN under the weighted cross-entropy above; ``forward`` takes what :class:`Collate` makes."""

    answers: Tensor
    """The tokens of each action, (4, A)."""

    def __init__(
        self,
        model: JanusVLN,
        processor: VLNProcessor,
        weights: LossWeights = LossWeights(),
        noise: Noise = Noise(),
    ):
        super().__init__()
        self.model, self.weights, self.noise = model, weights, noise
        self.processor = processor
        self.plan = nn.Linear(model.config.text.hidden_size, PLAN_SIZE)
        self.register_buffer("answers", processor.answer_ids, persistent=False)

    def forward(
        self, expert: Tensor, previous: Tensor, plan: Tensor, semantic: Tensor, spatial: Tensor, **batch: Tensor
    ) -> dict[str, Tensor]:
        answers = self.answers[expert.clamp(min=0)]  # (B, T, A)
        semantic, spatial = (F.dropout(x, self.noise.features, self.training) for x in (semantic, spatial))
        if self.training:
            previous = previous.masked_fill(
                torch.rand(previous.shape, device=previous.device) < self.noise.previous, -1
            )
        hidden = self.model.read_episodes(
            EpisodeBatch(
                previous=self.processor.previous(previous), answers=answers, semantic=semantic, spatial=spatial, **batch
            )
        )
        likely = self.model.lm_head(hidden).float().log_softmax(-1)
        said = likely.argmax(-1)
        known = expert >= 0
        weight = self.step_weights(expert)
        loss = F.nll_loss(likely.flatten(0, 2), answers.flatten(), reduction="none", ignore_index=EMPTY)
        loss = loss.view_as(answers).sum(-1)  # -log of the probability of the whole answer
        right = ((said == answers) | (answers == EMPTY)).all(-1)
        stop = known & (expert == Action.STOP)
        arrived = known & ~stop & (plan[..., -1] <= self.weights.arrived)  # never where it is not known (NaN)
        halt = self.answers[Action.STOP, 0]
        loss = torch.where(arrived, -torch.logaddexp(-loss, likely[:, :, 0, halt]), loss)
        right |= arrived & (said[:, :, 0] == halt)
        action_loss = (loss * weight).sum() / weight.sum()
        plan_loss = self.plan_loss(hidden[:, :, 0], plan)
        return {
            "loss": action_loss + self.weights.plan * plan_loss,
            "action_loss": action_loss,
            "plan_loss": plan_loss,
            "accuracy": right[known].float().mean(),
            "stop_recall": right[stop].float().mean(),
        }

    def plan_loss(self, hidden: Tensor, plan: Tensor) -> Tensor:
        """Huber loss in metres over the steps whose ``plan`` (B, T, 7) is known."""
        known = ~plan.isnan()
        error = F.smooth_l1_loss(self.plan(hidden).float(), plan.nan_to_num(), reduction="none")
        return (error * known).sum() / known.sum().clamp(min=1)

    def step_weights(self, expert: Tensor) -> Tensor:
        """``w`` above, 0 where there is no step. The first step of an episode counts as a change of mind."""
        changed = torch.ones_like(expert, dtype=torch.bool)
        changed[:, 1:] = expert[:, 1:] != expert[:, :-1]
        weight = torch.where(changed, self.weights.inflection, 1.0)
        weight = torch.where(expert == Action.STOP, weight * self.weights.stop, weight)
        return torch.where(expert >= 0, weight, 0.0)
