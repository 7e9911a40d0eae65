"""The command line: ``dualsight demo | navigate | chat | draw | eval | fid | data | train | study | parity | doctor``.

What each command does, and its options, stand in ``commands``.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import Any

from rich.console import Console
from rich.markup import escape

from dualsight.commands import data, judge, talk, train_janus, train_memory, train_navigator, walk
from dualsight.extras import install


def doctor() -> None:
    """Say what is wrong with this installation, and how to mend it."""
    from dualsight.doctor import doctor as examine

    if any(finding.level == "broken" for finding in examine()):
        sys.exit(1)


COMMANDS: dict[str, Any] = {
    "demo": walk.demo,
    "navigate": walk.navigate,
    "eval": judge.evaluate,
    "study": judge.study,
    "data": {
        "_help": "Make and check data.",
        "house": data.house,
        "episodes": data.episodes,
        "walks": data.walks,
        "rooms": data.rooms,
        "views": data.views,
        "validate": data.validate,
    },
    "train": {
        "_help": "Train a navigator, a Janus or a VisMem, or a part of one.",
        "spatial": train_navigator.spatial,
        "semantic": train_navigator.semantic,
        "imitate": train_navigator.imitate,
        "dagger": train_navigator.dagger,
        "rounds": train_navigator.rounds,
        "codec": train_janus.codec,
        "encoder": train_janus.encoder,
        "new": train_janus.new,
        "swap": train_janus.swap,
        "janus": train_janus.janus,
        "policy": train_memory.policy,
        "memory": train_memory.memory,
        "grpo": train_memory.grpo,
    },
    "chat": talk.chat,
    "draw": talk.draw,
    "fid": judge.fid,
    "parity": judge.parity,
    "doctor": doctor,
}


def main(arguments: list[str] | None = None) -> None:
    """Run one command. What the user can mend ends in one line on stderr and exit status 2, not in a traceback."""
    from jsonargparse import DefaultHelpFormatter, auto_cli

    class WithDashes(DefaultHelpFormatter):
        """Options as people type them."""

        def format_help(self) -> str:
            return re.sub(r"--[a-z]\w+", lambda option: option[0].replace("_", "-"), super().format_help())

    arguments = [with_underscores(word) for word in (sys.argv[1:] if arguments is None else arguments)]
    logging.getLogger("dualsight.inference").setLevel(logging.ERROR)  # answers that are no action are in the results
    # `dualsight parity FILE`, `dualsight study NAME`, `dualsight fid A B`
    one_file = arguments[:1] in (["parity"], ["study"], ["fid"]) or arguments[:2] == ["data", "validate"]
    try:
        auto_cli(COMMANDS, args=arguments, as_positional=one_file, formatter_class=WithDashes)
    except (ValueError, OSError, ImportError, KeyError, FloatingPointError) as error:
        Console(stderr=True).print(f"[red]dualsight:[/] {escape(explain(error))}", soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted; what was written is safe, and the same command goes on from there")
        sys.exit(130)


def explain(error: Exception) -> str:
    """The line that is shown for an error; a missing package is shown with the extra that brings it."""
    from dualsight.doctor import EXTRAS

    if isinstance(error, ModuleNotFoundError) and error.name in EXTRAS:
        return f"{error.name} is not installed: {install(EXTRAS[error.name])}"
    return str(error.args[0] if isinstance(error, KeyError) and error.args else error)


def with_underscores(word: str) -> str:
    """``--house-seeds=0:9`` as ``--house_seeds=0:9``: options are parameters of functions."""
    option = re.match(r"--[a-z][a-z_-]*(?==|$)", word)
    return option[0][:2] + option[0][2:].replace("-", "_") + word[option.end() :] if option else word


if __name__ == "__main__":
    main()
