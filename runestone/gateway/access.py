"""May this caller use this model?

Rule: the name the client asked for decides, before it is resolved, so that an alias can be allowed without what it
stands for.
"""

from __future__ import annotations

import re

from runestone.core.call import Call, Caller
from runestone.core.names import Names, matcher
from runestone.core.reply import Reply
from runestone.errors import Forbidden
from runestone.gateway.pipeline import Next


class Access:
    """The stage; also answers for the model list. Patterns are compiled once per distinct list."""

    def __init__(self, lists: tuple[tuple[str, ...], ...], names: Names) -> None:
        self._names = names
        self._matchers: dict[tuple[str, ...], re.Pattern[str]] = {models: matcher(models) for models in lists}

    def allows(self, caller: Caller, model: str) -> bool:
        """Whether the caller's `models` name this one."""
        return caller.models == ("*",) or self._matchers[caller.models].match(model) is not None

    async def __call__(self, call: Call, next: Next) -> Reply:  # noqa: A002
        if not self.allows(call.caller, call.model):
            raise Forbidden("this key may not use this model", param="model")
        if call.caller.models != ("*",):  # who may not use a model does not hear of it either
            self._names.resolve(call.model, lambda name: self.allows(call.caller, name))
        return await next(call)
