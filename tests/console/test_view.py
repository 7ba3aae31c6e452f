"""What `runestone top` makes of a gateway's state: numbers as people read them, and nothing a terminal would obey."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runestone.console import top
from runestone.console.remote import shown
from runestone.console.view import duration, view
from runestone.core.json import JsonObject

STATE: JsonObject = {
    "version": "0.1.0",
    "pid": 7,
    "uptime_seconds": 3725.0,
    "draining": False,
    "memory_bytes": 53_400_000,
    "loop_lag_seconds": 0.0004,
    "calls": {
        "total": 2,
        "finished": 1200,
        "stages": {"streaming": 1, "pool": 1},
        "oldest": [
            {
                "id": "req_1",
                "operation": "chat/completions",
                "model": "fast",
                "stream": True,
                "key": "team",
                "age_seconds": 75.2,
                "stage": "streaming",
                "target": "openai/gpt-4o",
                "attempts": 2,
                "cache": "miss",
            },
            {
                "id": "req_2",
                "operation": "embeddings",
                "model": "small",
                "stream": False,
                "key": "other",
                "age_seconds": 0.25,
                "stage": "pool",
                "target": None,
                "attempts": 0,
                "cache": "none",
            },
        ],
    },
    "streams": {"active": 1, "resumable": 0},
    "websocket": {"connections": 3, "sessions": 3, "away": 1, "rooms": 2, "received": 9, "sent": 9},
    "cache": {"hits": 30, "misses": 10, "collapsed": 4, "entries": 10, "bytes": 2500},
    "providers": {
        "openai": {
            "draining": True,
            "pool": {"active": 2, "idle": 5, "waiting": 1},
            "targets": [
                {
                    "target": "openai/gpt-4o",
                    "in_flight": 2,
                    "score": 0.5,
                    "latency_seconds": 0.812,
                    "breaker": "open",
                    "breaker_retry_after": 12.0,
                },
                {
                    "target": "openai/*",
                    "in_flight": 0,
                    "score": 1.0,
                    "latency_seconds": 0.0,
                    "breaker": "closed",
                    "breaker_retry_after": 0.0,
                },
            ],
        },
        "simulated": {"targets": []},
    },
    "log": {"dropped": 0, "followers": 0},
}
PICTURE = """\
runestone 0.1.0   pid 7   up 1h02m   53 MB   loop 0.4 ms
calls 2 in flight (1 pool, 1 streaming)   1200 finished
cache 10 answers, 2 KB, 75% of 40 hit, 4 collapsed
streams 1 running, 0 to be rejoined   WebSocket 3 connections, 1 away, 2 rooms

provider          active  idle  waiting  target  calls  latency  score  breaker
openai (drained)       2     5        1  gpt-4o      2   812 ms    0.5  open, 12s
                                         *           0     0 ms    1.0  closed
simulated

  age  stage      operation                  model  target         tries  key    cache  id
1m15s  streaming  chat/completions (stream)  fast   openai/gpt-4o      2  team   miss   req_1
 0.2s  pool       embeddings                 small                     0  other  none   req_2
"""


def test_a_state_as_plain_text() -> None:
    """Lines for the whole, a table of targets, a table of calls."""
    assert top.plain(view(STATE)) == PICTURE


def test_what_happened_between_two_states_is_a_rate() -> None:
    """Calls a second; none across a restart."""
    before: JsonObject = {**STATE, "calls": {"finished": 1000}}
    assert "1200 finished   100/s" in view(STATE, before, 2.0).lines[1]
    assert view(STATE, {**before, "pid": 8}, 2.0).lines[1].endswith("finished")


def test_lines_that_were_dropped_are_said() -> None:
    """Somebody looks here because the log says nothing."""
    assert view({**STATE, "log": {"dropped": 12}}).lines[-1] == "log 12 lines dropped: stderr is not read"
    assert "DRAINING" in view({**STATE, "draining": True}).lines[0]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0.0s"), (9.94, "9.9s"), (10, "10s"), (59.9, "59s"), (60, "1m00s"), (3599, "59m59s"), (7260, "2h01m")],
)
def test_a_duration_is_short(seconds: float, text: str) -> None:
    """Two units at most."""
    assert duration(seconds) == text
    assert duration(86400 * 4 + 3 * 3600) == "4d03h"


@pytest.mark.parametrize("hostile", ["\x1b[2J\x1b[31m", "a\nb", "\x9b1m", "\u202egpt", "\r", "\x07"])
def test_names_do_nothing_to_a_terminal(hostile: str) -> None:
    """A client chooses ids and models; what is not printable is shown as such."""

    def picture(name: str) -> str:
        call = {"id": name, "model": name, "key": name, "stage": name, "target": name}
        targets = [{"target": name, "breaker": name}]
        calls = {"oldest": [call], "stages": {name: 1}}
        return top.plain(view({"calls": calls, "providers": {name: {"targets": targets}}, "version": name}))

    text = picture(hostile)
    assert all(sign.isprintable() or sign == "\n" for sign in text)
    assert text.count("\n") == picture("harmless").count("\n")


NAMES = [*STATE, "oldest", "targets", "total", "finished", "hits", "bytes", "pool", "breaker", "age_seconds"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner),
    max_leaves=15,
)


@given(st.dictionaries(st.sampled_from(list(STATE)), JSON))
def test_whatever_a_gateway_tells_can_be_shown(state: dict[str, object]) -> None:
    """Another version may tell other things."""
    assert top.plain(view(state, STATE, 1.0)).startswith("runestone")


def test_long_texts_are_cut() -> None:
    """With a sign that there was more."""
    assert shown("x" * 50, 10) == "x" * 9 + "…"
    assert shown("x" * 10, 10) == "x" * 10
