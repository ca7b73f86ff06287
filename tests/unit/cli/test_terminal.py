import argparse

import pytest

from naruto_vision.cli.console import cosine, progress, share, whole_number


@pytest.mark.parametrize("text", ["-1", "x", "1.5", "", "٣", "nan"])
def test_only_whole_numbers_of_0_or_more_pass(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected a whole number of 0 or more, found"):
        whole_number(text)
    assert (whole_number("0"), whole_number("12")) == (0, 12)


@pytest.mark.parametrize("text", ["-0.1", "1.01", "nan", "x", "inf"])
def test_only_shares_pass(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected a number from 0 to 1, found"):
        share(text)
    assert (share("0"), share("0.25"), share("1")) == (0.0, 0.25, 1.0)


def test_a_cosine_may_be_negative() -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected a number from -1 to 1"):
        cosine("-1.1")
    assert cosine("-1") == -1.0


def test_a_bar_writes_to_stderr_only(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("counting", 2) as advance:
        advance()
        advance()
    assert capsys.readouterr().out == ""
