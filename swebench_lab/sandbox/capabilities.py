"""Capabilities: what kinds of sandboxes differ in, by name; each class declares which of them it has."""

from collections.abc import Mapping

CAPABILITIES: Mapping[str, str] = {
    "session": "a shell that keeps directory, variables, functions and jobs from one command to the next",
    "checkpoint": "`checkpoint`, and starting from checkpoints (`layers=`)",
    "fork": "`fork`: a second live box from a checkpoint",
    "stream": "`stream`: a byte channel to a program of the box",
    "command trees": "at its timeout all that a command started ends, daemons included, and a job it left can go on writing",
    "limits": "`limits=` and the bounds on memory, files and cores that come with it",
    "system call filter": "no mounts, namespaces, tracing, kernel keys or unusual sockets, and no rights to be gained",
    "hidden first process": "the process that serves the box can be neither read nor signalled",
    "sealed host": "programs of the host are read-only, and its other files, and folders of the Snapshot, are not there",
    "own root": "/tmp, /dev and every other path are the box's own, not the machine's",
    "own processes": "a process table of its own, in /proc",
    "own loopback": "a loopback of its own, for TCP and UDP",
    "own names": "a host name and System V objects of its own",
    "shared memory": "a bounded /dev/shm of its own, which multiprocessing's locks need",
    "closed directories": "a directory that its owner may not enter is kept so",
    "disk in sum": "a bound on all that it writes, not on each file alone",
    "bounded processes": "a bound on its processes: without it, a fork bomb takes the machine",
    "closed kernel folders": "/proc, /sys and /dev offer nothing of the machine beyond the few usual files",
    "names of any bytes": "checkpoints keep files whose names are no text",
}
"""What a kind of sandbox may have or lack; the conformance kit tries only what a class declares."""

EVERYTHING = frozenset(CAPABILITIES)
