"""The benchmark suite: Runestone beside the least an aiohttp relay can do, in the same run, on the same cores.

    load.py ──▶ bare.py | runestone ──▶ provider.py        (three processes, loopback, pinned to cores where possible)
       │              │
       └─ counts      └─ CPU and memory, read from outside

    wire.py      what is said: one realistic request, one answer, one stream
    reader.py    pure: the end of an HTTP reply, found without parsing more than that takes
    run.py       one run of the load generator: what is asked, what it answers
    process.py   cores, CPU time and memory of a process, read from outside
    servers.py   child processes: started, awaited, stopped
    faults.py    what the provider does wrong on demand
    rate.py      the other load generator: a fixed rate, failures counted
    contest.py   the contenders side by side, in alternating rounds
    table.py     rows, the table, the command line every measurement shares

Rule: nothing here asserts a time. Machines differ and neighbours are noisy; what is worth comparing is printed as a
ratio.
"""
