"""The vocabulary of the simulated model: sentences with room for the prompt's words, and the few prompts it knows.

Rule: data and pure functions; a sentence is picked by the dice it is handed.
Deliberately absent: any claim to be right.
"""

from __future__ import annotations

import re
from random import Random

_STOPWORDS = """
about above after again against all also always and any are because been before being below between both but can
cannot could did does doing down during each essay story article detailed detail explain few first for from
further give good had has have having her here hers him his how into its just know let like long make many may
mean might more most much must need not now off once one only other our out over own please same say shall she
should show some such tell than that the their them then there these they this those through too try two under
until use using very want was way well were what when where which while who whom why will with without would
write you your yours words word sentence sentences return returns given get list answer function tool call user
value string current provided using specific named
"""
STOPWORDS = frozenset(_STOPWORDS.split())

OPENERS = (
    "{A} is best understood by looking at what it does before asking how it does it.",
    "When people ask about {a}, they usually want to know where {b} comes in.",
    "There are three things worth knowing about {a}.",
    "In short, {a} depends on {b} more than it seems at first.",
    "Let us take {a} step by step, and start with {b}.",
    "The quickest way into {a} is through a small example with {b}.",
)
SENTENCES = (
    "First, {a} rarely stands alone; it leans on {b} in most practical cases.",
    "A common mistake is to treat {a} and {b} as if they were the same thing.",
    "If you change one, keep an eye on the other, because {b} tends to follow {a} with a delay.",
    "In practice, a small and careful step is worth more than a large plan.",
    "It helps to write down what you expect of {a} before you measure it.",
    "The details vary, but the pattern is steady: observe, adjust, and observe again.",
    "You can test this yourself by holding {b} fixed and varying {a} a little at a time.",
    "Most of the cost hides in the places where {a} meets {b}.",
    "That is why experienced people begin with {b} and only then turn to {a}.",
    "There are exceptions, of course, and they are usually the interesting part.",
    "Seen from a distance, {a} looks simple; up close it is full of small decisions.",
    "A good rule of thumb is to ask what would happen to {b} if {a} were twice as large.",
    "None of this requires special tools, only patience and a clear question.",
    "Over time the effect adds up, and {a} becomes easier to predict.",
    "Where the two disagree, trust the one you can measure.",
)
CLOSERS = (
    "I can go deeper into {a} if you tell me what you already know.",
    "If you want, we can look at {b} next.",
    "That should be enough to get started with {a}.",
    "Ask me about {b} if any of this was unclear.",
)
RESULTS = (
    "Here is what I found: {result}",
    "The lookup came back with this: {result}",
    "According to the tool, the result is: {result}",
)
LONG = re.compile(
    r"\b(long|longer|essay|story|detail(?:ed|s)?|article|thorough(?:ly)?|comprehensive|in depth)\b", re.IGNORECASE
)
WORDS_ASKED = re.compile(r"\b(\d{1,5})[ -](?:word|token)s?\b", re.IGNORECASE)

_GREETING = re.compile(
    r"\W*(?:hi|hello|hey|good (?:morning|evening|day))(?:[ ,]+(?:there|again|runestone))?\W*", re.IGNORECASE
)
_WHO = re.compile(r"\b(?:who|what) are you\b", re.IGNORECASE)
_ECHO = re.compile(
    r"\s*(?:please )?(?:say|repeat(?: after me)?|(?:reply|respond|answer) (?:with )?(?:only|exactly|just))"
    r"(?: the word)?:? [\"'“]?([^\"'“”\n]{1,200}?)[\"'”]?[.!]?\s*",
    re.IGNORECASE,
)
_COUNT = re.compile(r"\bcount (?:from (\d{1,3}) )?(?:up )?to (\d{1,3})\b", re.IGNORECASE)
_SUM = re.compile(r"(?<![\d.])(\d{1,9}) ?([-+*/x×]|plus|minus|times) ?(\d{1,9})(?![\d.])", re.IGNORECASE)
_POEM = re.compile(r"\b(haiku|poem)\b", re.IGNORECASE)
_JOKE = re.compile(r"\bjoke\b", re.IGNORECASE)
_HAIKUS = (
    "A packet at dawn\ncrosses the sleeping network;\none token answers.",
    "Carved into the stone,\nevery request leaves a mark.\nThe cache remembers.",
    "Streams over pebbles:\neach word arrives on its own,\nthe river is whole.",
)
_JOKES = (
    "Why did the token cross the gateway? It was cheaper on the other side.",
    "I would tell you a joke about caching, but you have heard it before.",
    "Two language models walk into a bar. The bartender streams them one drink at a time.",
)


def known(prompt: str, dice: Random) -> str | None:
    """The answer to a prompt of the demo, None for all others."""
    if len(prompt) > 400:
        return None
    if _GREETING.fullmatch(prompt):
        return "Hello! I am a simulated model, so I am quick and never tired. What would you like to talk about?"
    if prompt.strip(" .!?").lower() == "ping":
        return "pong"
    if (echo := _ECHO.fullmatch(prompt)) is not None:
        return echo.group(1).strip() or None
    if _WHO.search(prompt):
        return (
            "I am the simulated model that comes with Runestone. I need no network and no key, "
            "and I give the same answer to the same question."
        )
    if (count := _COUNT.search(prompt)) is not None:
        low, high = int(count.group(1) or 1), int(count.group(2))
        return ", ".join(map(str, range(low, high + 1))) or str(high)
    if (found := _SUM.search(prompt)) is not None:
        return _sum(int(found.group(1)), found.group(2).lower(), int(found.group(3)))
    if _POEM.search(prompt):
        return dice.choice(_HAIKUS)
    return dice.choice(_JOKES) if _JOKE.search(prompt) else None


def _sum(left: int, sign: str, right: int) -> str:
    if sign in ("+", "plus"):
        return f"{left} + {right} = {left + right}."
    if sign in ("-", "minus"):
        return f"{left} - {right} = {left - right}."
    if sign == "/":
        return f"{left} / {right} = {left / right:g}." if right else f"{left} / 0 has no value."
    return f"{left} × {right} = {left * right}."
