"""A believable LLM without a network: the upstream of load tests and of the demo.

    request.py    what may be asked, read strictly; a wrong field is a BadRequest that names it
    model.py      what it says: a text, tool calls or a JSON instance, by prompt, seed and choice
    phrases.py    the vocabulary it says it with, and the few prompts it knows
    schema.py     an instance of a JSON schema
    embeddings.py vectors of unit length
    wire.py       how it is written: OpenAI's JSON and server-sent events
    behaviour.py  how fast, and how it fails when told to

Rule: pure and deterministic. No clock, no dice, no tasks: the same request gives the same bytes, the caller paces them.
"""
