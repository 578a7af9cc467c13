"""How a run does while it is trained, in words: what a reader of its curves would say.

rules   what numbers say is wrong: spikes, plateaus, rates past their edge, layers that do not move
probe   what is measured for it now and then: how far weights move, which units are dead
words   the token frequencies that a language model has to do better than
watch   Health: follows a run step by step
told    health.jsonl: what was said, once, and where it is read again
"""

from research.health.told import FILE, Told, read
from research.health.watch import Health

__all__ = ["FILE", "Health", "Told", "read"]
