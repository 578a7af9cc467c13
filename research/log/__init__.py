"""What a run writes down while it runs.

journal    Log: metrics.jsonl, TensorBoard, samples.jsonl, a line of progress
lines      files of JSON lines
progress   the line of progress, live or plain
stopwatch  where the time goes
"""

from research.log.journal import OWN, Log

__all__ = ["OWN", "Log"]
