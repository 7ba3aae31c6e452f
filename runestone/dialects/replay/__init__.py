"""A kept answer in the other form of its dialect: a whole answer as the stream a client would have read (stream.py), a
stream as the whole answer (whole.py), and which form is made of which (forms.py). OpenAI's chunks are written in
chunks.py and joined in joined.py, Anthropic's events in events.py and folded.py.

Rule: exactly or not at all. There and back is the same JSON, and what cannot be said so is `Inexact`: the caller then
asks the provider. Nothing is made up, and nothing is left out but the padding that hides a chunk's length.
"""
