"""An experiment on a machine that one does not have: will it fit, how fast can it go, what is sent.

command      what `research plan` does
topology     chips with their public figures, and how they are joined
tracing      what the shapes say, in seconds and without a compiler: a `trace`, its `traffic`
search       the fastest mesh, remat policy and microbatches that fit
compiler     starts the compiler of another machine, in `worker`; keeps what it makes
hlo, count   reads a compiled program; its loops and FLOPs
network      how fast a group of devices can talk
collectives  what a program sends, by cause
schedule     how long a step takes, on paper
buffers      what fills the memory
result       all of it in one value; `findings` in words, `text` for the terminal, `page` in HTML,
             `figures` as people read them
"""

from research.plan.command import run

__all__ = ["run"]
