"""Classifier-free guidance: the released code draws with 5. All arms are one model, so this also judges one at hand."""

from dualsight.studies.study import Arm, Claim, Study

STUDY = Study(
    "guidance",
    tuple(Arm(f"guidance {scale:g}", guidance=scale) for scale in (1.0, 2.0, 3.0, 5.0, 8.0)),
    (
        Claim("guidance 3 draws what was asked for more often than none", "guidance 3", "guidance 1", "generation"),
        Claim("the released guidance of 5 is as good as 3", "guidance 5", "guidance 3", "generation", margin=3),
        Claim("guidance 8 is too much", "guidance 5", "guidance 8", "generation"),
    ),
)
