"""Functions by name."""

import pytest

from dualsight.bench.geneval import relations
from dualsight.data.named import function_of


def test_ours_come_first_and_others_by_their_module():
    assert function_of("max", "reward", {"max": min}) is min
    assert function_of("dualsight.bench.geneval:relations", "judge") is relations


@pytest.mark.parametrize("name", ["nothing", "", ":", "no.such.module:f", "dualsight.bench.geneval:nothing"])
def test_what_is_none_is_refused(name):
    with pytest.raises(ValueError, match=f"no judge '{name}'.*expected exact, numeric or module:function"):
        function_of(name, "judge", {"exact": min, "numeric": max})


def test_what_is_no_function_is_refused():
    with pytest.raises(ValueError, match="is a float; expected a function"):
        function_of("dualsight.bench.geneval:NEAR", "judge")
