"""From the model of a run to labels, entities and answers for new texts."""

from research.predict.command import predict

__all__ = ["predict"]
