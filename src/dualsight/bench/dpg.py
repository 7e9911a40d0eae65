"""DPG-Bench (Hu et al., arXiv:2403.05135) on its own file of questions, with a judge of your choice.

Each row of ``dpg_bench.csv`` is a question about the picture of a prompt: ``item_id, text, proposition_id, dependency,
category_broad, question_natural_language`` (other columns are left alone). A question whose answer depends on others
(``dependency``: their ids, 0 for none) counts as no where one of those counts as no: nobody asks for the colour of a
dog that is not there. A picture's score is the share of its questions with yes, the overall score the mean over
pictures. The score of a category is the share of yes as the judge said it, before dependencies.

The rules are those of the published scorer, without three slips of it: it leaves out the first row of the file (and
with it the first prompt, if a question of that depends on it), takes categories from the last picture of a prompt only,
and leaves out pictures at which it fails. It judges with mPLUG-large; the name of yours stands in the result.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dualsight.bench.prompted import Draw, Wanted, draw_missing, picture_seed, read_frame
from dualsight.bench.scores import Score, score, write_result
from dualsight.types import Frame

COLUMNS = ("item_id", "text", "proposition_id", "dependency", "category_broad", "question_natural_language")

Judge = Callable[[Frame, Sequence[str]], Sequence[bool]]
"""A picture and questions about it -> whether the answer to each is yes."""


@dataclass(frozen=True)
class Question:
    """One row of the file."""

    number: int
    text: str
    category: str
    depends_on: tuple[int, ...] = ()


@dataclass(frozen=True)
class Prompt:
    """A prompt and its questions."""

    name: str
    text: str
    questions: tuple[Question, ...]


def read_prompts(path: Path) -> list[Prompt]:
    """The prompts of a DPG-Bench file.

    Raises:
        ValueError: a column is missing, or a row is not as above; it is named.
        OSError: the file cannot be read.
    """
    texts: dict[str, str] = {}
    questions: dict[str, list[Question]] = defaultdict(list)
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if missing := [column for column in COLUMNS if column not in (reader.fieldnames or ())]:
            raise ValueError(f"{path} has no column {', '.join(missing)}; expected {', '.join(COLUMNS)}")
        for row in reader:
            try:
                name = row["item_id"]
                parents = tuple(int(part) for part in row["dependency"].split(",") if int(part))
                question = Question(
                    int(row["proposition_id"]), row["question_natural_language"], row["category_broad"], parents
                )
            except (ValueError, AttributeError) as error:
                raise ValueError(
                    f"{path}, line {reader.line_num}: {error}; expected numbers for proposition_id and dependency"
                ) from error
            texts.setdefault(name, row["text"])
            questions[name].append(question)
    for name, asked in questions.items():
        known = {question.number for question in asked}
        for question in asked:
            if unknown := sorted(set(question.depends_on) - known):
                raise ValueError(f"{path}: question {question.number} of {name} depends on {unknown}, which it has not")
    if not texts:
        raise ValueError(f"{path} holds no prompts")
    return [Prompt(name, text, tuple(questions[name])) for name, text in texts.items()]


def settle(questions: Sequence[Question], said: Sequence[bool]) -> list[bool]:
    """The answers, with no wherever a question depends on one that is no, be it by this rule.

    As in the published scorer it goes through the questions once, in their order: a no passes on to all that come
    behind it, but a question that stands before those it depends on sees what the judge said.

    Raises:
        ValueError: there are not as many answers as questions.
    """
    if len(said) != len(questions):
        raise ValueError(f"{len(questions)} questions were asked, {len(said)} answers came back")
    yes = {question.number: bool(answer) for question, answer in zip(questions, said, strict=True)}
    for question in questions:
        yes[question.number] &= all(yes[number] for number in question.depends_on)
    return [yes[question.number] for question in questions]


def evaluate(
    draw: Draw,
    judge: Judge,
    prompts: Sequence[Prompt],
    out: Path,
    images: int = 4,
    seed: int = 0,
    drawing: dict | None = None,
    config: dict | None = None,
) -> dict:
    """Draw ``images`` pictures of each prompt into ``out/images`` and have them judged. Run again, it draws what is
    missing.

    Args:
        drawing: what draws, plain JSON: weights and settings. Pictures by others in ``out`` are refused.
        config: whatever else the result should say, plain JSON.

    Returns:
        The content of ``out/results.json``: ``overall`` (mean over pictures, dependencies counted), ``categories``
        (shares of questions, as the judge answered).

    Raises:
        DifferentRun: ``out`` holds pictures of other prompts, seeds or weights.
        ValueError: ``draw`` or ``judge`` returned another number than it was asked for.
    """
    wanted = [
        Wanted(out / "images" / f"{prompt.name}_{n}.png", prompt.text, picture_seed(seed, number * images + n))
        for number, prompt in enumerate(prompts)
        for n in range(images)
    ]
    draw_missing(draw, wanted, out, {"seed": seed, "images_per_prompt": images, **(drawing or {})})
    by_category: dict[str, list[bool]] = defaultdict(list)
    shares, right, count = [], 0, 0
    for number, item in enumerate(wanted):
        questions = prompts[number // images].questions
        said = judge(read_frame(item.path), [question.text for question in questions])
        answers = settle(questions, said)
        right, count = right + sum(answers), count + len(answers)
        shares.append(100 * sum(answers) / len(answers))
        for question, answer in zip(questions, said, strict=True):
            by_category[question.category].append(bool(answer))
    categories: dict[str, Score] = {name: score(sum(yes), len(yes)) for name, yes in by_category.items()}
    result = {
        "protocol": {"name": "dpg", "version": 2, "images_per_prompt": images},
        "seed": seed,
        "overall": score(right, count, mean_of=shares),
        "categories": categories,
        "config": {**(config or {}), **(drawing or {})},
    }
    write_result(out / "results.json", result)
    return result
