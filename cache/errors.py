"""What a user reads when the cache cannot do what was asked."""

import re

# Texts, because most runs mask nothing and need not compile them.
_USERINFO = r"(\w[\w+.-]*://)[^/\s]+@"
_SECRET = r"(?i)\b(authorization|token|password|secret|api[-_]?key)(\"?\s*[=:]\s*\"?)(bearer\s+|basic\s+)?[^\s&\"',;]+"


class CacheError(Exception):
    """A mistake that a user can fix: what is wrong, where, and what to do about it, as full sentences."""

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what, where, fix
        super().__init__(what, where, fix)

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head}\n  {self.fix}" if self.fix else head


class Damaged(CacheError):
    """Stored bytes are missing or are not what they were; they have been set aside. Treat it as a miss."""


def masked(text: str) -> str:
    """`text` without credentials: user and password of URLs, and values after words such as token or password."""
    return re.sub(_SECRET, r"\1\2***", re.sub(_USERINFO, r"\1***@", text))
