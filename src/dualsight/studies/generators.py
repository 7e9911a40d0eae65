"""Making images token by token, or by a diffusion transformer that reads the language model's states."""

from dualsight.studies.study import Arm, Claim, Study

STUDY = Study(
    "generators",
    (Arm("vq"), Arm("dit", generation="dit")),
    (
        Claim("tokens draw what was asked for more often than a flow", "vq", "dit", "generation"),
        Claim(
            "how images are made does not change how they are understood", "vq", "dit", "understanding", 5, alike=True
        ),
    ),
)
