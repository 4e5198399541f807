"""What a user's code raises names their own line; what Heron's raises does not."""

from __future__ import annotations

import numpy as np
import pytest

from heron_core.errors import DataError, ModelError
from heron_core.own_code import naming_users_code, place_in_users_code, said_by


def broken() -> None:
    np.zeros(3).reshape(7)


def leaves() -> None:
    raise SystemExit(1)


def test_the_innermost_line_that_a_user_wrote_is_named_with_its_function() -> None:
    with pytest.raises(ValueError) as caught:
        broken()
    assert place_in_users_code(caught.value).startswith("test_own_code.py:")
    assert place_in_users_code(caught.value).endswith(" in broken")
    assert said_by(caught.value).startswith("ValueError: cannot reshape array")


@pytest.mark.parametrize("code", [broken, leaves])
def test_it_becomes_the_error_that_says_whose_it_is(code: object) -> None:
    assert callable(code)
    says = rf"^the model failed in its own code: .*\.py:\d+ in {code.__name__}\); mend it"
    with pytest.raises(ModelError, match=says), naming_users_code("the model", ModelError):
        code()


def test_a_heron_error_and_a_bug_of_heron_s_own_stay_what_they_are() -> None:
    with pytest.raises(DataError, match=r"^theirs$"), naming_users_code("the model", ModelError):
        raise DataError("theirs")
    ours: dict[str, object] = {}
    source = "def bug():\n    raise ZeroDivisionError\n"
    exec(compile(source, place_of_heron(), "exec"), ours)
    with pytest.raises(ZeroDivisionError):
        in_heron(ours["bug"])


def place_of_heron() -> str:
    import heron_core.errors

    return str(heron_core.errors.__file__)


def in_heron(bug: object) -> None:
    assert callable(bug)
    naming_users_code("the model", ModelError)(bug)()


@pytest.mark.parametrize("folder", ["/opt/env/lib/python3.11/site-packages", "/usr/lib/python3/dist-packages"])
def test_a_package_of_any_environment_is_no_user_s_own(folder: str) -> None:
    theirs: dict[str, object] = {}
    exec(compile("def fails():\n    raise ValueError", f"{folder}/torch/nn.py", "exec"), theirs)
    fails = theirs["fails"]
    assert callable(fails)
    with pytest.raises(ValueError) as caught:
        fails()
    assert " in test_a_package" in place_in_users_code(caught.value), "the line that called it is"
