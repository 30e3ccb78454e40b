"""Whole error messages, which tests compare to the letter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


def message_of(error: type[Exception], call: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    """The whole message with which the call raises this error; the test fails where it does not."""
    with pytest.raises(error) as caught:
        call(*args, **kwargs)
    return str(caught.value)
