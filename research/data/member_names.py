"""Names inside archives: which may become files, and whether two of them would be the same one."""

from __future__ import annotations

import re
import unicodedata

# Control characters, what turns the direction of writing, and bytes that are no UTF-8.
UNSEEN = re.compile("[\0-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# A disk's name, or what Windows takes for a device, whatever follows the dot.
WINDOWS = re.compile(
  r"[a-z]:.*|(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\..*)?", re.I | re.S
)
PART = 255  # bytes between two "/": more no file system takes


class Refused(Exception):
  """A name that may not be, and why."""


class Names:
  """The names of an archive so far."""

  def __init__(self):
    self._seen: dict[str, tuple[str, str]] = {}

  def add(self, name: str, kind: str) -> tuple[str, ...]:
    """The parts of a new "file" or "folder".

    Raises:
      Refused: it is absolute, climbs, is one of Windows' own, cannot be seen; is there already, or
        is another one to a system that does not tell capitals or ways of writing accents apart.
    """
    parts = _parts(name)
    for end in range(1, len(parts) + 1):
      self._add("/".join(parts[:end]), kind if end == len(parts) else "folder")
    return parts

  def _add(self, name: str, kind: str) -> None:
    same = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
    if same not in self._seen:
      self._seen[same] = (name, kind)
    elif self._seen[same] != (name, kind):
      other, its = self._seen[same]
      raise Refused(f"would be the same as the {its} {other!r} on some systems; rename one")
    elif kind == "file":
      raise Refused("is there twice; pack the archive again, with one of each name")


def _parts(name: str) -> tuple[str, ...]:
  if UNSEEN.search(name):
    raise Refused("has letters in its name that cannot be seen, or bytes that are not UTF-8")
  if name.startswith("/"):
    raise Refused("has an absolute name; pack the archive again with relative ones")
  if "\\" in name:
    raise Refused("has a backslash in its name, which is Windows' '/'; rename it")
  parts = tuple(part for part in name.split("/") if part not in ("", "."))
  if ".." in parts:
    raise Refused("climbs out of its folder by '..'; pack the archive again without")
  if any(WINDOWS.fullmatch(part) for part in parts):
    raise Refused("has a name that is a disk or a device to Windows; rename it")
  if any(len(part.encode()) > PART for part in parts):
    raise Refused(f"has a name of more than {PART} bytes; shorten it")
  return parts
