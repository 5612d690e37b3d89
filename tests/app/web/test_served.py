"""What is kept is made once, and what one waits for stalls no other."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier, Event

import pytest

from condgan.app.web.served import Kept
from condgan.utils.errors import UserError

SECONDS = 20


def test_what_many_ask_for_is_made_once() -> None:
    made, all_here = [], Barrier(4)
    kept = Kept(lambda key: made.append(key) or object(), 2)

    def ask(key: str) -> object:
        all_here.wait(SECONDS)
        return kept(key)

    with ThreadPoolExecutor(4) as pool:
        assert len({*pool.map(ask, "aaaa")}) == 1
    assert made == ["a"]


def test_none_waits_for_what_another_asked_for() -> None:
    go_on = Event()
    kept = Kept(lambda key: key if key == "quick" else go_on.wait(SECONDS), 2)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(kept, "slow")
        assert kept("quick") == "quick"
        assert not slow.done()
        go_on.set()
        assert slow.result(SECONDS)


def test_what_is_being_made_is_not_made_again_because_others_are_asked_for() -> None:
    made, begun, go_on = [], Event(), Event()

    def make(key: str) -> str:
        made.append(key)
        if key == "slow":
            begun.set()
            go_on.wait(SECONDS)
        return key

    kept = Kept(make, 2)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(kept, "slow")
        begun.wait(SECONDS)
        for key in ("a", "b", "c"):
            kept(key)
        second = pool.submit(kept, "slow")
        go_on.set()
        assert (first.result(SECONDS), second.result(SECONDS)) == ("slow", "slow")
    assert made == ["slow", "a", "b", "c"]


def test_the_last_few_are_kept_and_failures_are_not() -> None:
    made: list[str] = []

    def make(key: str) -> str:
        made.append(key)
        if made.count("bad") == 1:
            raise UserError("not yet")
        return key

    kept = Kept(make, 2)
    with pytest.raises(UserError, match="not yet"):
        kept("bad")
    assert [kept(key) for key in ("bad", "a", "bad", "b", "bad", "a")] == ["bad", "a", "bad", "b", "bad", "a"]
    assert made == ["bad", "bad", "a", "b", "a"]


def test_what_cannot_be_made_takes_no_place() -> None:
    made: list[str] = []

    def make(key: str) -> str:
        made.append(key)
        if key.startswith("bad"):
            raise UserError("no")
        return key

    kept = Kept(make, 2)
    for key in ("a", "b", "bad 1", "bad 2", "a", "b"):
        with suppress(UserError):
            kept(key)
    assert made == ["a", "b", "bad 1", "bad 2"]
