"""What a run with two towers is good for: pictures found by words, and told apart by names.

towers    a run, opened to encode pictures and texts
index     the vectors of a folder of pictures, kept
gallery   what a run finds in its own held-out pictures, for its report
command   `research embed`, `search`, `classify`
"""

from research.retrieve.command import classify, embed, search
from research.retrieve.gallery import write as write_gallery

__all__ = ["classify", "embed", "search", "write_gallery"]
