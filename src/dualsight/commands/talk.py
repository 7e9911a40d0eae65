"""Using a Janus: ``chat`` about pictures, ``draw`` what a text says."""

from __future__ import annotations

from pathlib import Path

from jsonargparse.typing import PositiveInt
from PIL import Image
from rich.console import Console

from dualsight.commands.options import Precision


def chat(
    model: Path,
    question: str = "",
    images: Path | list[Path] | None = None,
    max_tokens: PositiveInt = 256,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    device: str = "cpu",
    dtype: Precision = "float32",
) -> None:
    """Talk with a Janus about images: one question, or a conversation until an empty line.

    Args:
        model: a folder with a Janus of ours, of the official release or of transformers.
        question: asked once; without it the questions are read from the terminal, line by line.
        images: one, or [several, in, order], shown with the first question, before its text.
        max_tokens: an answer is cut off here.
        temperature: of sampling; 0 takes the best token.
        top_p: sample from the best tokens that together have this probability.
        seed: of sampling.
        device: cpu, cuda, cuda:1...
        dtype: of weights and computation.
    """
    from dualsight.inference.assistant import Assistant
    from dualsight.types import IMAGE_MARK, Conversation, Turn

    assistant = Assistant.from_pretrained(model, device, dtype)
    turns: list[Turn] = []
    pictures = [images] if isinstance(images, Path) else images or []
    shown = f"{IMAGE_MARK}\n" * len(pictures)
    while text := question.strip() or _ask():
        turns.append(Turn("user", shown + text))
        shown, answer = "", ""
        talk = Conversation(tuple(turns), tuple(pictures))
        for piece in assistant.stream(talk, max_tokens=max_tokens, temperature=temperature, top_p=top_p, seed=seed):
            print(piece, end="", flush=True)
            answer += piece
        print()
        if question:
            return
        turns.append(Turn("assistant", answer))


def _ask() -> str:
    """A line from the terminal, empty at its end."""
    try:
        return input("> ").strip()
    except EOFError:
        return ""


def draw(
    model: Path,
    prompt: str = "",
    prompts: Path | None = None,
    out: Path = Path("drawings"),
    per_prompt: PositiveInt = 1,
    seed: int = 0,
    guidance: float | None = None,
    temperature: float | None = None,
    top_k: PositiveInt | None = None,
    compile: bool = False,
    steps: PositiveInt | None = None,
    candidates: PositiveInt = 1,
    batch: PositiveInt = 64,
    device: str = "cpu",
    dtype: Precision = "float32",
) -> None:
    """Draw images with a Janus: PNG files, one for each image of each prompt.

    Args:
        model: a folder with a Janus of ours, of the official release or of transformers.
        prompt: what to draw.
        prompts: a text file with one prompt on each line, instead.
        out: folder of the images; those that it holds under the same names are replaced.
        per_prompt: images of each prompt.
        seed: of the first image; the next ones count up.
        guidance: how much the prompt counts; 1 is no guidance. By default 5 for tokens and 2 for JanusFlow, as
            released, 3 for a diffusion transformer.
        temperature: of sampling tokens, by default 1; 0 takes the best one.
        top_k: sample from so many of the best tokens only.
        compile: draw every token by one compiled graph: for GPUs, after a minute of compiling; CPUs are slower with it.
        steps: of a model that draws by flow.
        candidates: draw so many for each image, and keep the one that the model itself finds most like its prompt.
        batch: draw at most so many at once, and at least one prompt's; which ones they are makes no difference to them.
        device: cpu, cuda, cuda:1...
        dtype: of weights and computation.
    """
    from rich.progress import Progress

    from dualsight.data.files import replacing
    from dualsight.inference.assistant import Assistant

    if bool(prompt) == bool(prompts):
        raise ValueError("say what to draw: either --prompt TEXT, or --prompts FILE with one on each line")
    texts = prompts.read_text().splitlines() if prompts else [prompt]
    texts = [text.strip() for text in texts if text.strip()]
    assistant = Assistant.from_pretrained(model, device, dtype)
    given = {
        "guidance": guidance,
        "temperature": temperature,
        "top_k": top_k,
        "compile": compile or None,
        "steps": steps,
    }
    settings = {name: value for name, value in given.items() if value is not None}
    together = max(1, batch // (per_prompt * candidates))
    groups = -(-len(texts) // together)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("drawing", total=None)
        for group in range(groups):
            settings["on_step"] = lambda done, total, group=group: progress.update(
                task, completed=group * total + done, total=groups * total
            )
            first = group * together
            asked = texts[first : first + together]
            seeds = [seed + first * per_prompt + index for index in range(len(asked) * per_prompt)]
            images = assistant.generate_images(asked, seeds, per_prompt, candidates=candidates, **settings)
            for index, (image_seed, pixels) in enumerate(zip(seeds, images, strict=True)):
                path = out / f"{first + index // per_prompt:03d}-seed{image_seed}.png"
                with replacing(path) as temporary:
                    Image.fromarray(pixels).save(temporary, "png")
                print(f"{path}  {asked[index // per_prompt]}", flush=True)
