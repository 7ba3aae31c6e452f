"""Running it: sockets, signals, processes.

process.py     one process, from its listeners to its last connection
sockets.py     listeners: bound here, or inherited from the process before, the parent, or systemd
successor.py   SIGUSR2: a new process of the executable, on the same sockets
workers.py     the parent of several processes on the same sockets
family.py      what a worker knows of its siblings: one answer for /metrics, /admin, whoever of them is asked
sticky.py      connections that show the same key go to the same worker
system.py      what is asked of the operating system, and told to systemd
"""
