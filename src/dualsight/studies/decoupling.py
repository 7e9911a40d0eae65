"""Janus' first claim (arXiv:2410.13848, table 5): each task through a visual pathway of its own, against one for both.

The shared arm understands images through the tokens that it makes them of, as its ablation A does.
"""

from dualsight.studies.study import Arm, Claim, Study

STUDY = Study(
    "decoupling",
    (Arm("decoupled"), Arm("shared", encoder="none")),
    (
        Claim("an encoder of its own understands better than shared tokens", "decoupled", "shared", "understanding"),
        Claim("drawing loses nothing by it", "decoupled", "shared", "generation", margin=3),
        Claim("new pictures are as likely (nats)", "decoupled", "shared", "likelihood", margin=3),
        Claim("the gradients of the two tasks conflict less", "decoupled", "shared", "agreement"),
    ),
)
