"""`research bench`: training and decoding against their peers, and what is done beside them.

rounds       starts the workers, lets each run once a round in turn, and prints the table
comparisons  who runs beside whom
sizes        how large everything is
ours         our worker: the program that `research run` and `research sample` would run
peers        the workers of PyTorch and Hugging Face; needs an interpreter that has them
weights      what both sides read where their results are compared before they are timed
ours_read    our workers for these: BERT's and CLIP's training, classification, translation
peers_read   those of Hugging Face
peers_clip   those of Hugging Face and open_clip that train a CLIP
saving       checkpoints, beside training and beside safetensors
sweeping     a sweep, beside what its runs do for themselves
watching     the watch over a run's health, beside its steps
serve        what a worker does when it is asked
machine      how fast memory is read
"""

from research.bench.rounds import run

__all__ = ["run"]
