"""The names of JSON values, for code that must carry them without looking inside.

Rule: outside dialects/ a JSON object is opaque (`JsonObject`): values are `object` and must be narrowed before use.
"""

from __future__ import annotations

from typing import TypeAlias

JsonObject: TypeAlias = dict[str, object]
