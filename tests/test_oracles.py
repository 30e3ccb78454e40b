"""The oracle promise: a missing library fails the run where REQUIRE_ORACLES=1, and skips elsewhere."""

from __future__ import annotations

import pytest

from oracles import oracle


def test_missing_oracle_fails_where_it_is_promised(monkeypatch):
    monkeypatch.setenv("REQUIRE_ORACLES", "1")
    with pytest.raises(pytest.fail.Exception, match="promises no_such_library"):
        oracle("no_such_library")


def test_missing_oracle_skips_elsewhere(monkeypatch):
    monkeypatch.delenv("REQUIRE_ORACLES", raising=False)
    with pytest.raises(pytest.skip.Exception, match="not installed"):
        oracle("no_such_library")


def test_oracle_is_the_library():
    assert oracle("math").sqrt(4) == 2
