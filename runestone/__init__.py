"""Runestone: an LLM gateway. Change a client's base URL; the rest stays.

     client ─▶ edge (HTTP, SSE) ─▶ middlewares ─▶ gateway: the stages of a call ─▶ providers: pools ─▶ vendor
       ▲                                               │ one record per finished call
       └───────── events pulled back, in blocks ◀──────┴─▶ observers: metrics, logs

Where things are:

    config/      what runestone.toml may say, read strictly
    core/        pure: what a call, a reply and a record are; keys, tokens, names
    dialects/    pure: how OpenAI and Anthropic write calls, answers, streams and errors; the crossing between them
    gateway/     the stages of a call, in one list (pipeline.py)
    providers/   whom we call: the catalog, HTTP, credentials, the simulated model
    edge/        what clients see: routes, middlewares, answers
    telemetry/   observers of finished calls
    stores/      files that outlive a run
    cache.py, batch.py   for Python programs without a server
    console/     top and tail: a gateway seen from an operator's terminal
    wiring/      from the configuration to objects, part by part
    app.py       puts the parts together; reload.py does so anew while calls run
    serving/     runs it: listeners, signals, upgrades, several processes
    cli.py       the commands; debug.py lets somebody in
    tasks.py, heartbeat.py   what runs in the background, and whether the loop goes round

Rule: imports point inward (edge, providers, telemetry ─▶ gateway ─▶ dialects ─▶ core); app.py and cli.py know all.
"""

__version__ = "0.1.0"
