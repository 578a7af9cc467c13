"""From the model of a run to labels, entities, answers, translations, ... of new texts."""

from research.predict.command import predict

__all__ = ["predict"]
