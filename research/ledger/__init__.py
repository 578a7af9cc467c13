"""The ledger of a folder of runs: what each of them was, where it stands, what it came to and cost.

facts       what one run's folder says of it
book        Ledger: the facts of all, in one SQLite file that can be made anew from the folders
conditions  "heldout.loss<2": which runs are meant
listing     `research runs`: a table, or CSV
"""

from research.ledger.book import Ledger
from research.ledger.facts import Facts

__all__ = ["Facts", "Ledger"]
